"""Aggregation rules of other packages: they work by import path, and broken ones are named."""

import numpy as np
import pytest

from fedlab import BadInput, RunFailed
from fedlab.scenario.tables import CentralDP
from fedlab.server.aggregation import Aggregation
from tests.federations import finished, small
from tests.server.votes import SIZE, STATE, changes_of, flat, model, vote

HERE = "tests.server.rules"
SENT = [model(np.full(SIZE, value)) for value in (1.0, 2.0, 7.0)]


def change(done):
    return flat(done.arrays) - flat(STATE)


def test_a_rule_combines_changes_with_its_options():
    done = vote(SENT, f"{HERE}:Median", {"factor": 0.5})
    np.testing.assert_allclose(change(done), 1.0, atol=1e-6)
    assert done.used is None


def test_a_rule_that_selects_says_whom_it_used():
    done = vote(SENT, f"{HERE}:First")
    np.testing.assert_allclose(change(done), changes_of(SENT)[0], atol=1e-6)
    assert done.used == {0}


def test_a_rule_gets_the_root_update_that_it_needs():
    aggregation = Aggregation(f"{HERE}:TowardsRoot", {})
    assert aggregation.needs_root
    done = vote(SENT, "", aggregation=aggregation, root=model(np.full(SIZE, 3.0)))
    np.testing.assert_allclose(change(done), 3.0, atol=1e-6)


def test_a_rule_may_take_none_of_flowers_arguments():
    done = vote(SENT, f"{HERE}:Mean")
    np.testing.assert_allclose(change(done), 10 / 3, rtol=1e-5)


def test_only_a_linear_rule_has_central_noise():
    Aggregation(f"{HERE}:Mean", {}, central=CentralDP())
    with pytest.raises(BadInput, match="scales its noise for a mean"):
        Aggregation(f"{HERE}:Median", {}, central=CentralDP())


def test_a_rule_refuses_a_cohort_that_is_too_small():
    with pytest.raises(BadInput, match="Median needs 3 clients, but a round has 2"):
        Aggregation(f"{HERE}:Median", {}, cohort=2)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("math:sqrt", 'aggregation rule "math:sqrt" is no subclass of flwr'),
        ("math:nothing", "module math has no nothing"),
        ("fedlab.server.changes:ChangeRule", "lacks the method combine"),
        (f"{HERE}:Rootless", "lacks the method set_root"),
    ],
)
def test_what_is_no_rule_is_refused(name, sentence):
    with pytest.raises(BadInput, match=sentence):
        Aggregation(name, {})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Raising", "failed: KeyError: 'weights'"),
        ("Short", r"combine must return a change of shape \[8\], not \[2\]"),
        ("Silent", "it returns no model"),
        ("Renaming", "it returns other arrays than those of the global model"),
        ("Unprepared", "failed: IndexError"),
    ],
)
def test_a_broken_rule_stops_the_run_with_its_name(name, sentence):
    with pytest.raises(RunFailed, match=f'round 1: aggregation rule "{HERE}:{name}".*{sentence}'):
        vote(SENT, f"{HERE}:{name}")


def test_a_federation_runs_on_plug_ins():
    scenario = small(
        "rounds=1",
        "data.source='tests.foreign:images'",
        "data.partition='tests.foreign:halves'",
        "model.name='tests.foreign:network'",
        "server.strategy='tests.server.rules:TowardsRoot'",
    )
    done = finished(scenario)
    assert done.federated.data.name == "noise"
    assert [len(part) for part in done.federated.partitions] == [15] * 4
