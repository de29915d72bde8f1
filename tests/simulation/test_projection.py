"""Projected and final epsilon, through targets, toggles, resumes and engines."""

import json
import logging
import math
from itertools import pairwise

import pytest

from fedlab import BadInput, Federation
from fedlab.privacy.accountant import epsilon
from fedlab.results.folder import RunFolder
from fedlab.simulation.projection import calibrated, projections
from fedlab.simulation.recording import WriteTables
from tests.federations import finished, small

DP = {"name": "dp-sgd", "noise_multiplier": 1.0}
SIZES = dict.fromkeys(range(4), 40)
# Of 40 images in batches of 16: three steps a round at q = 0.4.
SKEWED = ["data.partition='dirichlet'", "data.alpha=1.0"]


def cost(*steps):
    return epsilon(tuple(steps), accountant="rdp", delta=1e-5)


def test_projection_counts_the_rounds_left():
    scenario = small(defenses=[DP | {"rounds": "2-", "clients": "0-1"}])
    found = projections(scenario, SIZES)
    assert found.keys() == {0, 1}
    assert found[0].projected == pytest.approx(cost((1.0, 0.4, 9)))
    assert (found[0].spent, found[0].rounds) == (0.0, 3)
    assert projections(scenario, SIZES, after=3)[0].rounds == 1
    assert projections(scenario, SIZES, after=4) == {}


def test_leaking_client_is_projected_by_its_batch():
    roles = [
        {"role": "leaking", "clients": "0", "batch_size": 4, "sampling": "poisson"},
        {"role": "leaking", "clients": "1", "batch_size": 4},
    ]
    found = projections(small(defenses=[DP], roles=roles), SIZES)
    assert found[0].projected == pytest.approx(cost((1.0, 0.1, 4)))
    # In a batch of fixed size the noise counts half.
    assert found[1].projected == pytest.approx(cost((0.5, 1.0, 4)))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"roles": [{"role": "leaking", "clients": "1", "rounds": "2", "sampling": "poisson"}]},
        {"server": {"cohort": 2}},
        {"roles": [{"role": "poisoning", "clients": "2", "update": {"attack": "scaling"}}]},
    ],
    ids=["plain", "leaking", "cohort", "disobeying"],
)
def test_projection_equals_the_final_epsilon(more):
    federation = Federation(small(*SKEWED, defenses=[DP | {"rounds": "1-3"}], **more))
    before = federation.projection
    federation.run()
    spent = {
        client: value
        for client in range(4)
        if (value := federation.ledger.protected(client)) is not None
    }
    assert spent == {client: each.projected for client, each in before.items()}
    assert {c: each.projected for c, each in federation.projection.items()} == spent
    assert all(each.rounds == 0 for each in federation.projection.values())


def test_void_rounds_are_projected_as_void():
    update = {"attack": "inner-product", "knows": "everyone"}
    role = {"role": "poisoning", "clients": "3", "rounds": "1-2", "update": update}
    federation = Federation(small(defenses=[DP | {"clients": "0"}], roles=[role], rounds=3))
    before = federation.projection[0]
    assert (before.rounds, before.void) == (3, 2)
    assert "does not hold in 2 of them" in str(before)
    federation.run()
    assert federation.ledger.protected(0) == before.projected
    only = small(defenses=[DP | {"clients": "0"}], roles=[role], rounds=2)
    assert math.isinf(projections(only, SIZES)[0].projected)


TARGET = {"name": "dp-sgd", "target_epsilon": 3.0, "rounds": "1,3-4"}
FEW = "training.batch_size=4"  # a target at a low sample rate is solved in a tenth of the time


@pytest.mark.parametrize("accountant", ["rdp", pytest.param("prv", marks=pytest.mark.long), "gdp"])
def test_every_client_meets_its_target(accountant):
    """Shards differ in size, so the noise does, too."""
    scenario = small(*SKEWED, FEW, defenses=[TARGET], privacy={"accountant": accountant})
    federation = Federation(scenario)
    noise = {
        client: entry.noise_multiplier
        for client in range(4)
        for entry in federation.scenario.defenses_on(round=1, client=client)
    }
    assert len(set(noise.values())) == 4
    federation.run()
    for client in range(4):
        own = federation.ledger.protected(client)
        assert own == pytest.approx(3.0, rel=3e-3)
        assert own <= 3.0
        entries = [e for e in federation.ledger.histories[client] if e.mechanism == "dp-sgd"]
        assert {entry.noise_multiplier for entry in entries} == {noise[client]}


def test_clients_of_one_size_share_an_entry():
    (entry,) = calibrated(small(FEW, defenses=[TARGET]), SIZES).defenses
    assert (entry.clients, entry.rounds, entry.target_epsilon) == ("0-3", "1,3-4", None)
    assert entry.noise_multiplier > 1


def test_rounds_without_the_target_count_towards_it():
    fixed = DP | {"rounds": "2", "noise_multiplier": 4.0}
    scenario = calibrated(small(FEW, defenses=[TARGET | {"rounds": "3-"}, fixed]), SIZES)
    found = projections(scenario, SIZES)
    assert found[0].projected == pytest.approx(3.0, rel=3e-3)
    alone = calibrated(small(FEW, defenses=[TARGET | {"rounds": "3-"}]), SIZES)
    assert scenario.defenses[0].noise_multiplier > alone.defenses[0].noise_multiplier


def test_a_scenario_without_targets_stays_as_it_is():
    scenario = small(defenses=[DP])
    assert calibrated(scenario, SIZES) is scenario


def test_saved_scenario_replays_a_solved_target():
    federation = finished(small(defenses=[TARGET]))
    saved = RunFolder.open(federation.folder.path).scenario
    assert saved == federation.scenario
    again = finished(saved)
    assert all((again.state[n] == value).all() for n, value in federation.state.items())
    assert again.ledger.rows() == federation.ledger.rows()


@pytest.mark.parametrize(
    ("defenses", "sentence"),
    [
        (
            [TARGET | {"rounds": "1"}, TARGET | {"rounds": "2", "target_epsilon": 1.0}],
            "client 0 has dp-sgd with different values of target_epsilon",
        ),
        (
            [TARGET | {"rounds": "1"}, DP | {"rounds": "2"}],
            "target_epsilon of client 0: no noise brings epsilon down to 3",
        ),
        (
            [TARGET | {"clipping": "adaptive", "quantile_noise": 0.1}],
            "quantile_noise is 0.1, but with noise_multiplier =",
        ),
    ],
)
def test_impossible_targets_are_refused(defenses, sentence):
    with pytest.raises(BadInput, match=sentence):
        Federation(small(FEW, defenses=defenses))


def test_toggle_projects_its_cost_before_it_runs(caplog):
    federation = Federation(small(defenses=[DP | {"clients": "0"}]))
    federation.step()
    steps = cost((1.0, 0.4, 12))
    assert federation.projection[0].projected == pytest.approx(steps)
    with caplog.at_level(logging.INFO):
        federation.toggle("dp-sgd", on=True, clients=[0, 1], noise_multiplier=0.5)
    after = federation.projection
    assert after[0].projected == pytest.approx(cost((1.0, 0.4, 3), (0.5, 0.4, 9)))
    assert after[1].projected == pytest.approx(cost((0.5, 0.4, 9)))
    assert f"client 1: epsilon of dp-sgd is {after[1]}" in caplog.text
    assert federation.round == 1
    event = json.loads((federation.folder.path / "toggles.jsonl").read_text())
    assert event["projected_epsilon"] == {"0": after[0].projected, "1": after[1].projected}
    federation.toggle("dp-sgd", on=False, clients=[0])
    federation.run()
    assert federation.ledger.protected(0) == pytest.approx(cost((1.0, 0.4, 3)))
    assert federation.ledger.protected(1) == pytest.approx(after[1].projected)
    assert math.isinf(federation.ledger.total(0))


def test_clipping_without_noise_projects_infinity():
    federation = Federation(small())
    federation.toggle("dp-sgd", on=True, clients=[0], noise_multiplier=0.0)
    assert math.isinf(federation.projection[0].projected)
    event = json.loads((federation.folder.path / "toggles.jsonl").read_text())
    assert event["projected_epsilon"] == {"0": "inf"}


def test_a_toggle_solves_nothing():
    federation = Federation(small())
    with pytest.raises(BadInput, match="target_epsilon is solved before the first round"):
        federation.toggle("dp-sgd", on=True, target_epsilon=2.0)
    assert not federation.scenario.defenses


def test_gdp_refuses_what_it_cannot_count():
    gdp = {"privacy": {"accountant": "gdp"}}
    mixed = [DP | {"rounds": "1"}, DP | {"rounds": "2", "noise_multiplier": 2.0}]
    with pytest.raises(BadInput, match="client 0: the gdp accountant counts steps of one noise"):
        Federation(small(defenses=mixed, **gdp))
    federation = Federation(small(defenses=[DP | {"rounds": "1-3"}], **gdp))
    federation.step()
    with pytest.raises(BadInput, match=r"set privacy\.accountant to rdp, prv or pld"):
        federation.toggle("dp-sgd", on=True, noise_multiplier=2.0)
    federation.run()
    rows = federation.ledger.rows(3)
    assert {row.statement for row in rows} == {"approximate"}


ADAPTIVE = DP | {"clipping": "adaptive", "clients": "1-2"}


class Killed(Exception):
    """Before the round was written."""


def toggled_run(folder, *, killed=False):
    """Rounds on, off and on again; perhaps killed after the replies of round 3 were in."""
    federation = Federation(small(defenses=[ADAPTIVE]), out=folder)
    federation.step()
    federation.toggle("dp-sgd", on=False, clients=[1])
    federation.step()
    federation.toggle("dp-sgd", on=True, clients=[1])
    if killed:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(WriteTables, "on_round", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                federation.step()
        federation = Federation.resume(folder)
    federation.run()
    return federation


def test_adaptive_bound_survives_toggles_and_a_resume(tmp_path):
    whole = toggled_run(tmp_path / "whole")
    assert whole.ledger.protected(1) == pytest.approx(cost((1.0, 0.4, 9)))
    assert whole.ledger.protected(2) == pytest.approx(cost((1.0, 0.4, 12)))
    killed = toggled_run(tmp_path / "killed", killed=True)
    # Round 3 was sent twice.
    assert killed.ledger.protected(1) == pytest.approx(cost((1.0, 0.4, 12)))
    assert killed.ledger.protected(2) == pytest.approx(cost((1.0, 0.4, 15)))
    for client in (1, 2):
        own = [e for e in killed.ledger.histories[client] if e.mechanism == "dp-sgd"]
        bounds = [(e.clipping_norm, e.next_clipping_norm) for e in own]
        assert all(one[1] == other[0] for one, other in pairwise(bounds))
        assert len(set(bounds)) == len(bounds)
