"""A malicious server in a federation: what it ships, sees, keeps, and leaves out of the model."""

import logging

import pytest
import torch
from torch import nn

from fedlab import BadInput, Federation, Scenario
from fedlab.client.federated_data import FederatedData
from fedlab.report.tables.schedule import schedule_grid
from fedlab.server.captures import Capture
from tests.federations import finished, small
from tests.report.legible import texts_of

IMPRINT = {"malicious": {"attack": "imprint", "bins": 128}}
LEAK = {"role": "leaking", "clients": "0", "batch_size": 16}
ATTACK = {"clients": "0", "preset": "fast", "iterations": 150}


def scenario(server, **tables):
    given = {"roles": [LEAK], "reconstructions": [ATTACK], "rounds": 2} | tables
    return small("model.width=16", server=server, **given)


def leakage(federation):
    table = federation.folder.table("leakage")
    table["psnr"] = table["psnr"].astype(float)
    return table


def fishing(target, clients="0", **more):
    return {"malicious": {"attack": "class-fishing", "target": target, "clients": clients, **more}}


def labels_in_the_batch(round=1):
    """Of client 0; the seed draws the same batch whatever the server does."""
    run = finished(scenario({}, rounds=1, reconstructions=[], captures={"keep": "all"}))
    capture = Capture.load(run.folder.captures, round=round, client=0)
    evaluator = run._evaluator
    leak = evaluator.evaluate(
        capture, run.scenario.changed(reconstructions=[{"iterations": 1}]).reconstructions[0], {}
    )
    return leak.reconstruction.labels.tolist()


@pytest.fixture(scope="module")
def batch():
    return labels_in_the_batch()


@pytest.fixture(scope="module")
def trapped():
    return finished(scenario(IMPRINT))


@pytest.fixture(scope="module")
def fished(batch):
    target = next(label for label in batch if batch.count(label) == 1)
    return finished(scenario(fishing(target), rounds=1, captures={"keep": "all"}))


def test_imprint_reveals_most_of_each_batch(trapped):
    table = leakage(trapped)
    assert set(table["threat"]) == {"malicious"}
    assert set(table["preset"]) == {"imprint"}
    assert set(table["iterations"]) == {0}
    assert not table["known_labels"].any()
    assert (table["payload_cosine"] > 0.9999).all()
    for _, rows in table.groupby("round"):
        exact = rows[rows["psnr"] > 60]
        assert len(exact) >= 10  # about 16 (1 - 1/128)^15 of 16 are alone in their bin
        assert exact["label_correct"].all()
        assert set(exact["verdict"]) == {"leaks"}


def test_imprint_block_is_restored_each_round(trapped):
    before, after = FederatedData.of(trapped.scenario).state, trapped.state
    block = {name for name in before if name.startswith("block.")}
    assert len(block) == 4
    assert all(torch.equal(before[name], after[name]) for name in block)
    assert not any(torch.equal(before[name], after[name]) for name in set(before) - block)


def test_weights_after_one_step_are_read_out():
    one_step = {"batch_size": 64, "lr": 0.05, "momentum": 0.9}
    attack = [ATTACK | {"clients": "1"}]
    run = finished(scenario(IMPRINT, training=one_step, reconstructions=attack, rounds=1))
    table = leakage(run)
    assert len(table) == 40
    assert (table["psnr"] > 30).sum() >= 15
    assert table[table["psnr"] > 30]["label_correct"].mean() > 0.9


def test_mixed_images_come_out_mixed():
    mixing = [{"name": "dp-instahide", "clients": "0", "k": 4}]
    table = leakage(finished(scenario(IMPRINT, defenses=mixing, rounds=1)))
    median = table.groupby("target")["psnr"].median()
    assert median["mixed"] > 40
    assert median["original"] < 20


def test_kept_imprint_and_resumed_run_agree(trapped, tmp_path):
    again = trapped.reconstruct(round=2, client=0)
    live = leakage(trapped)[lambda table: table["round"] == 2]
    assert [row.psnr for row in again.rows] == pytest.approx(live["psnr"].tolist(), nan_ok=True)
    first = Federation(trapped.scenario, out=tmp_path / "run")
    first.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert all(torch.equal(trapped.state[name], value) for name, value in resumed.state.items())
    assert leakage(resumed)["psnr"].equals(leakage(trapped)["psnr"])


def test_fishing_rebuilds_one_image_of_a_class(fished):
    table = leakage(fished)
    assert len(table) == 16
    (row,) = table[table["psnr"].notna()].itertuples()
    assert row.verdict == "leaks"
    assert row.psnr > 25
    assert row.label_correct
    assert not row.known_labels
    assert row.threat == "malicious"
    assert row.preset == "fast"
    assert set(table[table["psnr"].isna()]["verdict"]) == {"inconclusive"}


def test_fished_images_are_rebuilt_together(batch):
    target = next(label for label in batch if batch.count(label) == 2)
    table = leakage(finished(scenario(fishing(target), rounds=1)))
    assert table["psnr"].notna().sum() == 2
    assert (table["verdict"] == "leaks").sum() == 2


def test_a_fished_reply_stays_out_of_the_model(fished):
    others = [
        Capture.load(fished.folder.captures, round=1, client=client).payload.tensors
        for client in (1, 2, 3)
    ]
    for name, value in fished.state.items():
        mean = torch.stack([weights[name].double() for weights in others]).mean(0)
        assert torch.allclose(value.double(), mean, atol=1e-6)


def test_model_stays_if_all_clients_are_fished(batch):
    everyone = scenario(fishing(batch[0], clients="all"), reconstructions=[])
    run = finished(everyone)
    assert all(
        torch.equal(run.state[n], value) for n, value in FederatedData.of(everyone).state.items()
    )
    assert set(run.folder.table("clients")["status"]) == {"ok"}


def test_fishing_follows_the_schedule(batch):
    server = fishing(batch[0], clients="0-1", rounds="2")
    run = finished(scenario(server, captures={"keep": "all"}, reconstructions=[]))
    told = {
        (round, client): Capture.load(run.folder.captures, round=round, client=client)
        for round in (1, 2)
        for client in range(4)
    }
    assert {cell for cell, capture in told.items() if capture.facts.malicious} == {
        (2, 0),
        (2, 1),
    }
    assert told[2, 0].global_digest == told[2, 1].global_digest != told[2, 2].global_digest
    assert told[2, 2].global_digest == told[2, 3].global_digest
    assert {told[2, client].facts.target for client in (0, 2)} == {batch[0], None}
    assert told[2, 0].facts.threat == "malicious"
    assert told[2, 2].facts.threat == "honest-but-curious"


def test_fished_client_has_its_own_global_file(fished):
    names = sorted(path.name for path in fished.folder.captures.glob("global-*"))
    assert names == ["global-0001-00000.safetensors", "global-0001.safetensors"]
    again = fished.reconstruct(round=1, client=0, preset="fast", iterations=150, power=False)
    best = max(row.psnr for row in again.rows if row.psnr == row.psnr)
    assert best == pytest.approx(leakage(fished)["psnr"].max())


def test_resuming_a_fished_run_gives_the_same_weights(batch, tmp_path):
    planned = scenario(fishing(batch[0], clients="0-1"), reconstructions=[])
    first = Federation(planned, out=tmp_path / "run")
    first.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    unbroken = finished(planned).state
    assert all(torch.equal(unbroken[name], value) for name, value in resumed.state.items())


def test_batch_without_the_fished_class_is_logged(batch, caplog):
    absent = next(label for label in range(10) if label not in batch)
    planned = scenario(fishing(absent), rounds=1)
    with caplog.at_level(logging.WARNING):
        run = finished(planned)
    assert not leakage(run)["skipped"].isna().any()
    assert f"fished for class {absent}, of which its batch has no image" in caplog.text
    with pytest.raises(BadInput, match=f"fished for class {absent}"):
        run.reconstruct(round=1, client=0)


def test_several_local_steps_cannot_be_fished(caplog):
    attack = [ATTACK | {"clients": "1"}]
    with caplog.at_level(logging.WARNING):
        run = finished(scenario(fishing(3, clients="1"), reconstructions=attack, rounds=1))
    assert not leakage(run)["skipped"].isna().any()
    assert "client took 3 local steps" in caplog.text


def test_tables_and_pictures_keep_the_threats_apart(batch):
    roles = [LEAK | {"clients": "0-1", "batch_size": 16}]
    attack = [ATTACK | {"clients": "0-1", "iterations": 5}]
    run = finished(scenario(fishing(batch[0]), roles=roles, reconstructions=attack, rounds=1))
    verdict = run.table().cells[-1][-1]
    assert verdict.count("malicious server") == 1
    assert verdict.count("diagnostic") == 2
    labels = [text.get_text() for text, _ in texts_of(run.picture())]
    headings = [label for label in labels if label.startswith("round 1")]
    assert len(headings) == 2
    assert ["malicious" in heading for heading in headings] == [False, True]
    assert "no image" in labels
    assert "nan" not in " ".join(labels)


def test_an_honest_server_is_called_so():
    quick = [ATTACK | {"iterations": 2}]
    honest = Federation(scenario({}, reconstructions=quick)).step()
    assert {row.threat for row in honest.leakage} == {"honest-but-curious"}
    assert "malicious" not in str(honest)


def test_round_line_names_threat_and_best_image(fished):
    told = Federation(fished.scenario).step()
    best = leakage(fished)["aligned_psnr"].max()
    assert f"1 of 16 images leak, best {best:.1f} dB (malicious server)" in str(told)


def test_the_grid_shows_whom_it_tampers_with():
    grid = schedule_grid(scenario(fishing(3)))
    assert "malicious" in grid.note
    assert [str(row[1]) for row in grid.rows] == ["leak*!", "·"]
    assert "malicious" not in schedule_grid(scenario({})).note


@pytest.mark.parametrize("server", [IMPRINT, fishing(3, clients="0-2", rounds="2-")])
def test_it_survives_toml(server):
    planned = scenario(server)
    again = Scenario.parse(planned.to_toml())
    assert again == planned
    assert type(again.server.malicious) is type(planned.server.malicious)
    assert scenario({}).server.malicious is None


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ('{attack="class-fishing", rounds="9"}', 'server.malicious: "9" names round 9'),
        ('{attack="class-fishing", clients="4"}', 'server.malicious: "4" names client 4'),
        ('{attack="imprint", bins=1}', "server.malicious.imprint.bins"),
        ('{attack="imprint", bin=9}', 'has no key "bin"; did you mean "bins"?'),
        ('{attack="class-fishing", target=-1}', "server.malicious.class-fishing.target"),
        ('{attack="fishing"}', "known: imprint, class-fishing"),
    ],
)
def test_a_scenario_that_cannot_work_costs_a_sentence(override, sentence):
    with pytest.raises(BadInput) as caught:
        small(f"server.malicious={override}")
    assert sentence in str(caught.value)


def test_data_dependent_error_is_one_sentence():
    with pytest.raises(BadInput, match="target is 10, but the classes of digits go from 0 to 9"):
        Federation(scenario(fishing(10)))
    with pytest.raises(BadInput, match=r"server\.malicious: frequency must be from 0 to 63"):
        Federation(scenario({"malicious": {"attack": "imprint", "frequency": 64}}))
    own = {"name": "factory", "factory": "tests.evaluation.test_malicious:without_a_linear_layer"}
    with pytest.raises(BadInput, match=r"server\.malicious: class fishing needs a linear last"):
        Federation(scenario(fishing(0)).changed(model=own))


def without_a_linear_layer(*, shape, classes):
    return nn.Sequential(nn.Conv2d(shape[0], classes, shape[1]), nn.Flatten())
