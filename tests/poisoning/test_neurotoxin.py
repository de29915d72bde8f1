"""Neurotoxin in a federation: what the client has observed, and what it sends."""

import math
from itertools import pairwise

import pytest
import torch

from attacks.model_poisoning.vectors import flatten
from fedlab import Federation
from fedlab.evaluation.replay import replay
from fedlab.poisoning.cache import PoisonCache
from fedlab.protocol.planning import sample_cohort, task_for
from fedlab.server.captures import Capture
from tests.federations import finished, small

SHARE = 0.3
UPDATE = {"attack": "neurotoxin", "share": SHARE}
DATA = {"attack": "badnets", "target": 0, "share": 0.5, "size": 2}
ROLE = {"role": "poisoning", "clients": "1", "data": DATA, "update": UPDATE}
KEPT = {"keep": "all"}


def sent(federation, round, client=1):
    """Change that a client sent, and the global parameters that it was sent."""
    capture = Capture.load(federation.folder.captures, round=round, client=client)
    start = {name: capture.global_state[name] for name in capture.payload.tensors}
    change = {name: value - start[name] for name, value in capture.payload.tensors.items()}
    return flatten(change), flatten(start)


def is_off_heavy(federation, round, since):
    """Whether the client changed all but the coordinates that moved most since a round."""
    (change, now), (_, before) = sent(federation, round), sent(federation, since)
    order = (now - before).abs().argsort(descending=True)
    heavy = -int(-SHARE * len(order) // 1)
    return not change[order[:heavy]].any() and (change[order[heavy:]] != 0).float().mean() > 0.9


def test_the_update_is_off_what_changed_most_last():
    federation = finished(small(roles=[ROLE], captures=KEPT, rounds=3))
    assert is_off_heavy(federation, 2, since=1)
    assert is_off_heavy(federation, 3, since=2)
    first, _ = sent(federation, 1)  # before which nothing was observed
    assert first.count_nonzero() > 0.9 * len(first)


def test_every_local_step_is_projected(monkeypatch):
    """Steps that hold coordinates still lead elsewhere than a projection of where all lead."""
    each = finished(small(roles=[ROLE], captures=KEPT, rounds=2))
    monkeypatch.setattr("fedlab.client.client_round.poison_gradient", lambda pipeline, *_: pipeline)
    last = finished(small(roles=[ROLE], captures=KEPT, rounds=2))
    assert torch.equal(sent(each, 1)[0], sent(last, 1)[0])
    step, end = sent(each, 2)[0], sent(last, 2)[0]
    assert torch.equal(step == 0, end == 0)
    assert (step - end).norm() > 0.01 * end.norm()


def test_honest_rounds_before_the_attack_are_observed():
    federation = finished(small(roles=[ROLE | {"rounds": "3"}], captures=KEPT, rounds=3))
    assert is_off_heavy(federation, 3, since=2)
    honest, _ = sent(federation, 2)
    assert honest.count_nonzero() > 0.9 * len(honest)


def test_a_missed_round_is_not_observed():
    scenario = small(roles=[ROLE], captures=KEPT, rounds=12, server={"cohort": 2})
    there = [round for round in range(1, 13) if 1 in sample_cohort(scenario, round)]
    gaps = [pair for pair in pairwise(there) if pair[1] - pair[0] > 1]
    federation = finished(scenario)
    before, now = gaps[0]
    assert is_off_heavy(federation, now, since=before)


def test_factor_scales_the_projected_update():
    plain = finished(small(roles=[ROLE], captures=KEPT, rounds=1))
    scaled = ROLE | {"update": UPDATE | {"factor": 2.0}}
    louder = finished(small(roles=[scaled], captures=KEPT, rounds=1))
    torch.testing.assert_close(sent(louder, 1)[0], 2 * sent(plain, 1)[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_has_the_same_bits(tmp_path, stop):
    scenario = small(roles=[ROLE], rounds=4)
    whole = finished(scenario)
    again = Federation(scenario, out=tmp_path / "run")
    for _ in range(stop):
        again.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())
    stored = sorted(file.name for file in resumed.folder.poisons.iterdir())
    assert stored == ["global-1-3.safetensors", "global-1-4.safetensors"]
    scaling = ROLE | {"update": {"attack": "scaling", "factor": 1.0}}
    other = finished(small(roles=[scaling], rounds=4)).state
    assert any(not torch.equal(value, other[name]) for name, value in whole.state.items())


def test_a_replay_sends_the_same_update():
    federation = finished(small(roles=[ROLE], captures=KEPT, rounds=2))
    capture = Capture.load(federation.folder.captures, round=2, client=1)
    tasks = {1: task_for(federation.scenario, round=2, client=1)}
    truth = replay(federation.federated, capture, tasks, {})
    assert truth.payload_cosine == pytest.approx(1.0, abs=1e-9)


def test_a_late_replay_is_not_compared():
    federation = finished(small(roles=[ROLE], captures=KEPT, rounds=4))
    cosines = {}
    for round in (2, 4):
        capture = Capture.load(federation.folder.captures, round=round, client=1)
        tasks = {1: task_for(federation.scenario, round=round, client=1)}
        cosines[round] = replay(federation.federated, capture, tasks, {}).payload_cosine
    assert math.isnan(cosines[2])
    assert cosines[4] == pytest.approx(1.0, abs=1e-9)


def test_only_clients_that_need_it_observe():
    scenario = small(roles=[ROLE | {"rounds": "2"}], rounds=4)
    flags = {
        (round, client)
        for round in range(1, 5)
        for client in range(4)
        if task_for(scenario, round=round, client=client).observes
    }
    assert flags == {(1, 1), (2, 1)}
    other = ROLE | {"update": {"attack": "scaling"}}
    assert not task_for(small(roles=[other]), round=1, client=1).observes


@pytest.mark.parametrize("stored", [True, False], ids=["folder", "memory"])
def test_the_cache_keeps_the_last_two_global_models(tmp_path, stored):
    cache = PoisonCache()
    cache.folder = tmp_path / "poisons" if stored else None
    for round in (1, 2, 5, 5, 3):  # the last two are replays
        cache.keep_global(0, round, {"weight": torch.full((2,), float(round))})
    cache.keep_global(7, 4, {"weight": torch.zeros(2)})
    found = {round: cache.global_before(0, round) for round in (2, 5, 6)}
    assert found[2] is None
    assert [found[round]["weight"][0] for round in (5, 6)] == [2.0, 5.0]
    assert cache.global_before(7, 4) is None
