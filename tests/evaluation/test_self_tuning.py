"""The attack that tunes itself on surrogate clients, within a federation."""

import json

import pytest

from fedlab.evaluation.self_tuning import SelfTuning
from fedlab.evaluation.surrogates import ClientProfile, surrogate_captures
from fedlab.metrics.verdict import INCONCLUSIVE, LEAKS, NOT_SHOWN
from fedlab.protocol.planning import task_for
from fedlab.server.captures import Capture
from fedlab.simulation.federation import Federation
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0-1", "batch_size": 1}
AUTO = {"clients": "0-1", "preset": "auto", "iterations": 24, "tuning_iterations": 200}
NOISE = {"name": "dp-sgd", "noise_multiplier": 1.0, "clients": "0"}


def original(federation):
    table = federation.folder.table("leakage")
    return table[table["target"] == "original"]


def surrogates_of(federation, tasks, *, numbers, images=1, fished=0):
    capture = Capture.load(federation.folder.captures, round=1, client=next(iter(tasks)))
    profiles = [ClientProfile(task, task.defenses, images) for task in tasks.values()]
    return list(
        surrogate_captures(federation.federated, profiles, capture, numbers=numbers, fished=fished)
    )


@pytest.fixture(scope="module")
def tuned():
    scenario = small(roles=[LEAK], reconstructions=[AUTO | {"power": True}], rounds=2)
    return finished(scenario)


def test_choice_cost_and_power_are_columns(tuned):
    rows = original(tuned)
    assert rows["choice"].str.contains("tv").all()
    assert rows["power"].between(0, 1).all()
    assert (rows["tuning_seconds"] > 0).sum() == 2  # one untrained and one trained kind


def test_like_clients_share_a_choice(tuned):
    rows = original(tuned)
    assert (rows.groupby("round")["choice"].nunique() == 1).all()


def test_a_new_run_makes_the_same_choice(tuned):
    scenario = small(roles=[LEAK], reconstructions=[AUTO | {"power": True}], rounds=2)
    again = original(finished(scenario)).drop(columns=["seconds", "tuning_seconds"])
    before = original(tuned).drop(columns=["seconds", "tuning_seconds"])
    assert again.equals(before)


def test_a_resumed_run_keeps_its_choice(tmp_path):
    scenario = small(roles=[LEAK], reconstructions=[AUTO], rounds=4)
    whole = original(finished(scenario))
    part = Federation(scenario, out=tmp_path / "run")
    for _ in range(3):
        part.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    columns = ["round", "client", "choice", "psnr"]
    assert original(resumed)[columns].equals(whole[columns])


def test_surrogates_run_the_defense_on_public_images():
    scenario = small(roles=[LEAK], defenses=[NOISE], rounds=1, reconstructions=[AUTO])
    federation = finished(scenario)
    data = federation.federated.data
    task = task_for(scenario, round=1, client=0)
    found = surrogates_of(federation, {0: task}, numbers=range(3))
    assert {each.tasks[each.number].defense_names for each in found} == {"dp-sgd"}
    public = data.test_images.float().div(255).flatten(1)
    for each in found:
        for image in each.truth.inputs.flatten(1):
            assert (public == image).all(1).any()


def test_kinds_differ_by_defense():
    scenario = small(
        roles=[LEAK], defenses=[NOISE], rounds=1, reconstructions=[AUTO | {"clients": "0-1"}]
    )
    federation = finished(scenario)
    assert len(json.loads(federation.folder.tunings.read_text())["tunings"]) == 2


def test_what_the_user_set_is_kept():
    scenario = small(roles=[LEAK], reconstructions=[AUTO | {"tv": 0.02}], rounds=1)
    assert (original(finished(scenario))["tv"] == 0.02).all()


def test_without_power_nothing_is_not_shown(monkeypatch):
    monkeypatch.setattr(SelfTuning, "_measured", lambda self, kind: 0.25)
    scenario = small(
        roles=[LEAK], defenses=[NOISE], reconstructions=[AUTO | {"power": True}], rounds=1
    )
    rows = original(finished(scenario))
    assert not (rows["verdict"] == NOT_SHOWN).any()
    assert set(rows["verdict"]) <= {LEAKS, "recognisable", INCONCLUSIVE}


LIGHT = AUTO | {"iterations": 4, "tuning_iterations": 30}
SECURE = {"name": "secure-aggregation", "clients": "0-2"}
FISHING = {"malicious": {"attack": "class-fishing", "clients": "0", "target": 3}}
IMPRINT = {"malicious": {"attack": "imprint", "bins": 16}}
TRAPS = {"malicious": {"attack": "trap-weights", "clients": "0"}}


@pytest.fixture(scope="module")
def summed():
    scenario = small(
        roles=[LEAK | {"clients": "0-2"}],
        defenses=[SECURE],
        reconstructions=[AUTO | {"power": True}],
        rounds=1,
    )
    return finished(scenario)


def test_a_sum_has_a_tuned_choice_and_power(summed):
    rows = original(summed)
    assert len(rows) == 3
    assert rows["choice"].nunique() == 1
    assert rows["choice"].str.contains("tv").all()
    assert rows["power"].between(0, 1).all()


def test_power_of_a_sum_is_that_of_its_clients_alone(summed, tuned):
    alone = original(tuned)
    assert set(original(summed)["power"]) == set(alone[alone["round"] == 1]["power"])


def test_surrogates_of_a_sum_are_summed(summed):
    tasks = {client: task_for(summed.scenario, round=1, client=client) for client in range(3)}
    (each,) = surrogates_of(summed, tasks, numbers=range(1, 2))
    assert each.capture.clients == (3, 4, 5)
    assert each.capture.payload.num_examples == len(each.truth.inputs) == 3
    assert each.capture.facts.batch_size == 3
    assert each.truth.payload_cosine == pytest.approx(1)


def test_surrogates_of_a_fished_client_hold_the_class():
    scenario = small(
        roles=[LEAK | {"batch_size": 4}], server=FISHING, captures={"keep": "all"}, rounds=1
    )
    federation = finished(scenario)
    task = task_for(scenario, round=1, client=0)
    for each in surrogates_of(federation, {0: task}, numbers=range(3), images=4, fished=2):
        assert each.truth.labels.tolist().count(3) == 2
        assert (each.capture.facts.malicious, each.capture.facts.target) == ("class-fishing", 3)


@pytest.mark.parametrize(("server", "chooses"), [(FISHING, True), (IMPRINT, False), (TRAPS, False)])
def test_power_is_measured_under_a_malicious_server(server, chooses):
    scenario = small(
        roles=[LEAK | {"batch_size": 16}],
        model={"name": "mlp" if server is TRAPS else "convnet", "width": 4},
        server=server,
        reconstructions=[LIGHT | {"power": True, "clients": "0"}],
        rounds=1,
    )
    rows = original(finished(scenario))
    assert rows["power"].between(0, 1).all()
    assert rows["choice"].notna().all() == chooses
