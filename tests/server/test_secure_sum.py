"""Of clients in secure aggregation the server learns the sum, and nothing that needs more runs."""

import pytest
import torch
from flwr.app import Error

from fedlab import BadInput, Federation, RunFailed
from fedlab.server.captures import Capture
from tests.federations import Tampered, finished, small

SECURE = {"name": "secure-aggregation"}
LEAK = {"role": "leaking", "clients": "all", "batch_size": 2}
POISON = {"role": "poisoning", "clients": "3", "update": {"attack": "scaling", "factor": 2.0}}
UNEVEN = {"train": 160, "test": 80, "clients": 4, "partition": "dirichlet", "alpha": 1.0}


def captures(federation, round=1):
    return {
        client: Capture.load(federation.folder.captures, round=round, client=client)
        for client in range(4)
    }


def test_the_server_sees_one_sum_of_replies():
    open_run = small(rounds=2, data=UNEVEN, captures={"keep": "all"})
    alone = finished(open_run)
    federation = finished(open_run.changed(defenses=[SECURE]))
    files = sorted(path.name for path in federation.folder.captures.iterdir())
    assert [name for name in files if not name.startswith("global")] == [
        "sum-0001.safetensors",
        "sum-0002.safetensors",
    ]
    (seen,) = {capture.reply_digest: capture for capture in captures(federation).values()}.values()
    assert seen.clients == (0, 1, 2, 3)
    assert seen.payload.num_examples == 160
    for name, value in alone.state.items():
        torch.testing.assert_close(federation.state[name], value, rtol=1e-4, atol=1e-6)
    each = captures(alone)
    for name, value in seen.payload.tensors.items():
        mean = sum(
            each[client].payload.tensors[name] * each[client].payload.num_examples / 160
            for client in range(4)
        )
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-6)


def test_single_replies_are_in_no_table():
    table = finished(small(rounds=1, defenses=[SECURE | {"clients": "0-2"}])).folder.table(
        "clients"
    )
    hidden = table["client"] < 3
    assert (table["status"] == "ok").all()
    for column in ("examples", "steps", "update_norm"):
        assert table[column].isna().tolist() == hidden.tolist(), column


def test_a_client_left_alone_is_not_looked_at():
    federation = finished(small(rounds=1, defenses=[SECURE | {"clients": "2"}]))
    table = federation.folder.table("clients")
    assert table["status"].tolist() == ["ok", "ok", "refused", "ok"]
    assert "nobody else" in table["reason"].tolist()[2]


def failing(*clients):
    """A change of replies after which these clients failed."""

    def tamper(client, reply):
        return Error(code=2, reason="RuntimeError: no disk") if client in clients else reply

    return tamper


def test_a_client_left_alone_counts_as_failed(tmp_path):
    scenario = small(rounds=1, defenses=[SECURE], captures={"keep": "all"})
    grid = Tampered(scenario, failing(0, 1, 2))
    federation = Federation(scenario, out=tmp_path / "run", grid=grid)
    before = federation.state
    with pytest.raises(RunFailed, match="round 1: all clients failed"):
        federation.step()
    assert all(torch.equal(before[name], value) for name, value in federation.state.items())
    assert not list((tmp_path / "run" / "captures").iterdir())
    # It was sent all the same, and counts.
    assert len(Federation.resume(tmp_path / "run").ledger.histories[3]) == 1


def test_a_cohort_of_one_is_no_sum():
    with pytest.raises(RunFailed, match="nobody else is left"):
        finished(small(rounds=1, server={"cohort": 1}, defenses=[SECURE]))


def test_failures_may_leave_a_smaller_sum():
    scenario = small(rounds=1, defenses=[SECURE], captures={"keep": "all"})
    federation = finished(scenario, grid=Tampered(scenario, failing(0, 2)))
    assert Capture.load(federation.folder.captures, round=1, client=1).clients == (1, 3)
    statuses = federation.folder.table("clients")["status"].tolist()
    assert statuses == ["refused", "ok", "refused", "ok"]


def test_a_poisoner_cannot_step_out_of_the_sum():
    scenario = small(rounds=1, roles=[POISON], defenses=[SECURE], captures={"keep": "all"})
    assert captures(finished(scenario))[3].clients == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"strategy": "FedMedian"}, "FedMedian compares single replies"),
        ({"central_dp": {}}, "central_dp clips single replies"),
        ({"malicious": {"attack": "class-fishing", "target": 1}}, "class fishing"),
        ({"max_examples": 100}, "max_examples looks at what single replies claim"),
        ({"cap_examples": 100}, "cap_examples looks at what single replies claim"),
    ],
)
def test_a_rule_on_single_replies_is_refused(server, words):
    with pytest.raises(BadInput, match=words):
        Federation(small(server=server, defenses=[SECURE]))
    federation = Federation(small(server=server))
    with pytest.raises(BadInput, match=words):
        federation.toggle("secure-aggregation", on=True)
    assert federation.scenario.defenses == ()


def test_gradients_are_summed_and_attacked_as_one():
    scenario = small(
        rounds=1,
        roles=[LEAK],
        defenses=[SECURE],
        captures={"keep": "all"},
        reconstructions=[{"clients": "1", "iterations": 5, "labels": "known"}],
    )
    federation = finished(scenario)
    capture = captures(federation)[0]
    assert capture.payload.kind == "gradient"
    assert capture.payload.num_examples == 8
    rows = federation.folder.table("leakage")
    assert rows["client"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (rows["payload_cosine"] > 0.99999).all()
    assert rows["pool"].max() <= 160
    assert federation.consistency(round=1, client=2).cosine > 0.99999
    leak = federation.reconstruct(round=1, client=3, iterations=5)
    assert len(leak.originals) == 8


def test_the_noise_of_a_sum_is_that_of_all_together():
    private = {"name": "dp-sgd", "noise_multiplier": 1.5}
    scenario = small(rounds=1, roles=[LEAK], defenses=[private, SECURE], captures={"keep": "all"})
    told = captures(finished(scenario))[0].facts
    assert told.noise_multiplier == pytest.approx(3.0)
    assert told.batch_size == 8
    assert set(told.defenses) == {"dp-sgd", "secure-aggregation"}


def test_noise_of_a_sum_is_in_units_of_its_bound():
    private = [
        {"name": "dp-sgd", "clients": "1", "clipping_norm": 0.5, "noise_multiplier": 8.0},
        {"name": "dp-sgd", "clients": "2", "clipping_norm": 2.0, "noise_multiplier": 1.5},
    ]
    scenario = small(rounds=1, defenses=[*private, SECURE], captures={"keep": "all"})
    told = captures(finished(scenario))[0].facts
    assert told.clipping_norm == 2.0
    assert told.noise_multiplier * told.clipping_norm == pytest.approx(5.0)  # of 4 and 3


def test_the_noise_of_clipped_updates_averages_out():
    noisy = {"name": "clip-noise", "clipping_norm": 0.5, "noise_multiplier": 2.0}
    scenario = small(rounds=1, roles=[LEAK], defenses=[noisy, SECURE], captures={"keep": "all"})
    quiet = scenario.changed(defenses=[noisy | {"noise_multiplier": 0.0}, SECURE])
    federation, without = finished(scenario), finished(quiet)
    seen, signal = captures(federation)[0], captures(without)[0]
    told = seen.facts
    assert (told.update_clipping_norm, told.update_noise) == pytest.approx((0.5, 0.5))
    noise = torch.cat(
        [(seen.payload.tensors[n] - t).flatten() for n, t in signal.payload.tensors.items()]
    )
    assert float(noise.std()) == pytest.approx(told.update_noise, rel=0.1)
    leak = federation.reconstruct(round=1, client=0, iterations=2)
    assert leak.rows[0].signal_cosine > 0.9999


def test_one_unclipped_update_unbounds_the_mean():
    some = {"name": "clip-noise", "clients": "0-1"}
    scenario = small(rounds=1, roles=[LEAK], defenses=[some, SECURE], captures={"keep": "all"})
    assert captures(finished(scenario))[0].facts.update_clipping_norm is None


def test_only_the_cocktail_party_takes_on_a_large_sum():
    attacks = [{"clients": "0", "preset": each} for each in ("cocktail-party", "fast")]
    scenario = small(
        rounds=1,
        model={"name": "mlp", "width": 96},
        roles=[LEAK | {"batch_size": 20}],
        defenses=[SECURE],
        reconstructions=attacks,
    )
    rows = finished(scenario).folder.table("leakage")
    skipped = rows.groupby("preset")["skipped"].agg(lambda reasons: reasons.notna().all())
    assert skipped.to_dict() == {"cocktail-party": False, "fast": True}
    assert (rows["letter"] == "D").all()
