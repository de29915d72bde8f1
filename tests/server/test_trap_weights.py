"""Trap weights: what the server sends, sees, reads out and leaves out of the model."""

import pytest
import torch

from fedlab import BadInput, Federation, Scenario
from fedlab.client.federated_data import FederatedData
from fedlab.protocol.planning import task_for
from fedlab.server.captures import Capture
from fedlab.server.trap_weights import images_behind
from tests.federations import finished, small

SECURE = {"name": "secure-aggregation"}
LEAK = {"role": "leaking", "clients": "all", "batch_size": 4}
ATTACK = {"clients": "0", "labels": "inferred"}
MLP = {"name": "mlp", "width": 400}


def traps(**more):
    return {"malicious": {"attack": "trap-weights", **more}}


def scenario(**tables):
    given = {"server": traps(), "roles": [LEAK], "reconstructions": [ATTACK], "rounds": 1}
    return small(model=MLP, captures={"keep": "all"}, **given | tables)


def leakage(federation):
    table = federation.folder.table("leakage")
    table["psnr"] = table["psnr"].astype(float)
    return table


@pytest.fixture(scope="module")
def summed():
    return finished(scenario(defenses=[SECURE], rounds=2))


@pytest.mark.parametrize("rule", ["quantile", "halves"])
def test_images_of_a_batch_leak_exactly(rule):
    table = leakage(finished(scenario(server=traps(rule=rule, clients="0"))))
    assert len(table) == 4
    assert (table["psnr"] > 60).sum() >= 3
    exact = table[table["psnr"] > 60]
    assert set(exact["verdict"]) == {"leaks"}
    assert exact["label_correct"].all()
    assert not table["known_labels"].any()
    assert set(table["preset"]) == {"trap-weights"}
    assert set(table["threat"]) == {"malicious"}
    assert set(table["letter"]) == {"G"}
    assert set(table["iterations"]) == {0}
    assert (table["payload_cosine"] > 0.9999).all()


def test_images_of_all_clients_of_a_sum_leak(summed):
    for _, rows in leakage(summed).groupby("round"):
        assert sorted(rows["client"].unique()) == [0, 1, 2, 3]
        assert len(rows) == 16
        assert (rows["psnr"] > 60).sum() >= 10
        assert rows[rows["psnr"] > 60]["client"].nunique() == 4


def test_the_global_model_stays_if_all_are_trapped(summed):
    before = FederatedData.of(summed.scenario).state
    assert all(torch.equal(summed.state[name], value) for name, value in before.items())


def test_a_trapped_reply_stays_out_of_the_model():
    run = finished(scenario(server=traps(clients="0")))
    seen = [Capture.load(run.folder.captures, round=1, client=client) for client in range(4)]
    assert [each.facts.malicious for each in seen] == ["trap-weights", None, None, None]
    assert len({each.global_digest for each in seen}) == 2
    for name, value in run.state.items():
        steps = torch.stack([each.payload.tensors[name].double() for each in seen[1:]])
        expected = seen[1].global_state[name].double() - 0.05 * steps.mean(0)
        assert torch.allclose(value.double(), expected, atol=1e-6)


def test_each_round_has_traps_of_its_own(summed):
    first, second = (
        Capture.load(summed.folder.captures, round=round, client=2).global_state["1.weight"]
        for round in (1, 2)
    )
    assert not torch.equal(first, second)
    names = {path.name for path in summed.folder.captures.glob("global-*")}
    assert names == {"global-0001-00000.safetensors", "global-0002-00000.safetensors"}


def test_a_kept_sum_is_read_again(summed, tmp_path):
    again = summed.reconstruct(round=2, client=3, power=False)
    live = leakage(summed)[lambda table: table["round"] == 2]
    assert [row.psnr for row in again.rows] == pytest.approx(live["psnr"].tolist(), nan_ok=True)
    first = Federation(summed.scenario, out=tmp_path / "run")
    first.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert leakage(resumed)["psnr"].equals(leakage(summed)["psnr"])


def test_weights_after_local_steps_are_read_out():
    steps = {"batch_size": 20, "lr": 0.05, "epochs": 2}
    exact = []
    for norm in (0.02, 0.577):
        table = leakage(finished(scenario(server=traps(norm=norm), roles=[], training=steps)))
        assert len(table) == 40
        exact.append((table["psnr"] > 50).sum())
    # Smaller weights lose less to rounding.
    assert exact[0] >= 20
    assert exact[0] > exact[1]


def test_noise_hides_the_images():
    private = [{"name": "dp-sgd", "noise_multiplier": 1.0}]
    assert "leaks" not in set(leakage(finished(scenario(defenses=private)))["verdict"])


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, 4),
        ({"roles": []}, 40),
        ({"roles": [LEAK | {"clients": "1"}]}, 40),
        ({"defenses": [SECURE]}, 16),
        ({"defenses": [SECURE | {"clients": "0-1"}]}, 8),
        ({"server": traps(batch_size=7)}, 7),
    ],
)
def test_traps_are_made_for_what_the_server_asks(tables, expected):
    planned = scenario(**tables)
    tasks = {client: task_for(planned, round=1, client=client) for client in range(4)}
    assert images_behind(planned, tasks, dict.fromkeys(range(4), 40)) == expected


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"defenses": [SECURE], "server": traps(clients="0-2")}, "in round 1 only some clients"),
        ({"model": {"name": "convnet"}}, "server.malicious: trap weights need a network such as"),
    ],
)
def test_what_cannot_work_is_refused(tables, words):
    with pytest.raises(BadInput, match=words):
        Federation(scenario().changed(**tables))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ('{attack="trap-weights", rule="thirds"}', "server.malicious.trap-weights.rule"),
        ('{attack="trap-weights", norm=0}', "server.malicious.trap-weights.norm"),
        ('{attack="trap-weights", batch_size=0}', "server.malicious.trap-weights.batch_size"),
    ],
)
def test_bad_settings_cost_a_sentence(override, sentence):
    with pytest.raises(BadInput) as caught:
        small(f"server.malicious={override}")
    assert sentence in str(caught.value)


def test_it_survives_toml():
    planned = scenario(server=traps(rule="halves", batch_size=8, rounds="1"))
    assert Scenario.parse(planned.to_toml()) == planned


def read(defenses, **tables):
    attack = ATTACK | {"power": True} | tables.pop("attack", {})
    return leakage(finished(scenario(defenses=defenses, reconstructions=[attack], **tables)))


def test_more_images_leak_to_the_adapted_read_out():
    noise = {"name": "clip-noise", "noise_multiplier": 3e-5}
    adapted, plain = (
        read([noise], attack={"adapt": adapt, "clients": "0-3"}) for adapt in (True, False)
    )
    assert (adapted["verdict"] == "leaks").sum() >= 14
    assert (plain["verdict"] == "leaks").sum() <= 9
    assert adapted["psnr"].mean() > plain["psnr"].mean() + 20


@pytest.mark.parametrize(
    "defense",
    [
        {"name": "clip-noise"},
        {"name": "dp-sgd"},
        {"name": "dp-sgd", "clipping": "per-layer"},
    ],
)
def test_known_noise_that_hides_images_is_named(defense):
    table = read([defense])
    assert set(table["verdict"]) == {"not shown"}
    assert (table["power"] >= 0.75).all()


@pytest.mark.parametrize(
    ("defenses", "tables"),
    [
        ([{"name": "clip-noise"}], {"attack": {"adapt": False}}),
        ([{"name": "dp-sgd", "clipping": "adaptive"}], {}),
        ([{"name": "clip-noise"}, {"name": "pruning", "share": 0.9}], {}),
        ([{"name": "grad-defense", "scale": 1.0}], {}),
        (
            [{"name": "clip-noise"}],
            {"roles": [], "training": {"batch_size": 20, "lr": 0.05, "momentum": 0.9}},
        ),
    ],
)
def test_without_adaptation_nothing_is_called_not_shown(defenses, tables):
    verdicts = set(read(defenses, **tables)["verdict"])
    assert "inconclusive" in verdicts
    assert "not shown" not in verdicts
