"""Tests of the tasks of clients, the facts of a round and the cohort."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fedlab.privacy.history_text import from_json
from fedlab.privacy.release import PrivacyRelease
from fedlab.protocol.planning import sample_cohort, task_for
from fedlab.protocol.round_facts import scheduled_facts
from tests.federations import small

DP = {"name": "dp-sgd", "clipping_norm": 0.7, "rounds": "2-"}
SCALING = {"attack": "scaling", "factor": 3.0}


def test_learning_rate_decays_by_round():
    scenario = small("training.lr=0.2", "training.lr_decay=0.5")
    rates = [task_for(scenario, round=number, client=0).lr for number in (1, 2, 3)]
    assert rates == [0.2, 0.1, 0.05]


def test_task_has_scheduled_role_and_defenses():
    scenario = small(
        roles=[{"role": "leaking", "clients": "0", "rounds": "1"}],
        defenses=[DP | {"clients": "0-1"}],
    )
    cells = {
        (number, client): (task.role.role, task.defense_names)
        for number in (1, 2)
        for client in (0, 1, 2)
        for task in [task_for(scenario, round=number, client=client)]
    }
    assert cells == {
        (1, 0): ("leaking", "none"),
        (1, 1): ("honest", "none"),
        (1, 2): ("honest", "none"),
        (2, 0): ("honest", "dp-sgd"),
        (2, 1): ("honest", "dp-sgd"),
        (2, 2): ("honest", "none"),
    }


def test_task_survives_json():
    scenario = small(roles=[{"role": "poisoning", "clients": "0"}], defenses=[DP])
    private = PrivacyRelease(1, 0, "dp-sgd", 1.0, None, 1.1, 0.1, 3)
    history = (private, PrivacyRelease(2, 1, "none"))
    task = task_for(scenario, round=3, client=0, proximal_mu=0.25, history=history)
    again = type(task).model_validate_json(task.model_dump_json(exclude_none=True))
    assert again == task
    assert again.proximal_mu == 0.25
    assert from_json(again.history) == history


def test_history_is_sent_only_after_a_resume():
    assert task_for(small(), round=1, client=0).history is None
    assert task_for(small(), round=1, client=0, history=()).history == "[]"


def test_task_contains_no_seed():
    task = task_for(small(seed=987654321), round=1, client=0)
    assert "987654321" not in task.model_dump_json()
    assert "seed" not in json.dumps(task.model_json_schema()["properties"])


def test_facts_name_defenses_that_clients_ignore():
    scenario = small(
        roles=[{"role": "poisoning", "clients": "0", "update": SCALING}], defenses=[DP]
    )
    task = task_for(scenario, round=2, client=0)
    assert task.defenses == ()
    told = scheduled_facts(task, scenario)
    assert told.defenses == ("dp-sgd",)
    assert told.clipping_norm == 0.7
    before = scheduled_facts(task_for(scenario, round=1, client=0), scenario)
    assert (before.defenses, before.clipping_norm) == ((), None)


def test_facts_have_the_batch_size_of_the_role():
    leak = {"role": "leaking", "clients": "0", "batch_size": 3, "sampling": "poisson"}
    scenario = small("training.batch_size=16", "training.momentum=0.9", roles=[leak])
    leaking = scheduled_facts(task_for(scenario, round=1, client=0), scenario)
    honest = scheduled_facts(task_for(scenario, round=1, client=1), scenario)
    assert (leaking.batch_size, leaking.poisson) == (3, True)
    assert (honest.batch_size, honest.poisson) == (16, False)
    assert (honest.lr, honest.momentum, honest.epochs) == (0.05, 0.9, 1)


@given(seed=st.integers(0, 2**40), number=st.integers(1, 4), size=st.integers(1, 4))
def test_cohort_depends_on_seed_and_round_only(seed, number, size):
    scenario = small(seed=seed, server={"cohort": size})
    cohort = sample_cohort(scenario, number)
    assert len(set(cohort)) == size
    assert cohort == sorted(cohort)
    assert set(cohort) <= set(range(4))
    other = scenario.changed(defenses=[DP], training={"lr": 1.0})
    assert sample_cohort(other, number) == cohort


def test_cohorts_vary_and_reach_every_client():
    def cohorts(seed):
        scenario = small("data.clients=10", rounds=30, seed=seed, server={"cohort": 3})
        return [tuple(sample_cohort(scenario, number)) for number in range(1, 31)]

    assert len(set(cohorts(0))) > 20
    assert cohorts(0) != cohorts(1)
    assert {client for cohort in cohorts(0) for client in cohort} == set(range(10))


def test_all_clients_take_part_without_cohort():
    assert sample_cohort(small(), 3) == [0, 1, 2, 3]
