"""Tests of the task of a client as JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab.core.errors import BadInput
from fedlab.defenses.dp_instahide import DPInstaHide
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.poisoning.badnets import BadNets
from fedlab.poisoning.label_flip import LabelFlip
from fedlab.poisoning.updates.scaling import Scaling
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Honest, Leaking, Poisoning
from fedlab.scenario.tables import Training

ROLES = st.one_of(
    st.just(Honest()),
    st.builds(
        Leaking, batch_size=st.integers(1, 9), sampling=st.sampled_from(["fixed", "poisson"])
    ),
    st.builds(
        Poisoning,
        data=st.one_of(
            st.none(),
            st.builds(LabelFlip, share=st.floats(0.01, 1)),
            st.builds(BadNets, size=st.integers(1, 4), corner=st.just("top-left")),
        ),
        update=st.one_of(st.none(), st.builds(Scaling, factor=st.floats(-9, 9))),
        obeys_defenses=st.sampled_from([None, True, False]),
    ),
)
DEFENSES = st.lists(
    st.one_of(
        st.builds(DPSGD, noise_multiplier=st.floats(0, 9)),
        st.builds(DPInstaHide, k=st.integers(1, 9), noise=st.sampled_from(["laplace", "gaussian"])),
    ),
    max_size=2,
).map(tuple)


@given(role=ROLES, defenses=DEFENSES, lr=st.floats(1e-6, 1), mu=st.floats(0, 1))
def test_task_json_round_trip(role, defenses, lr, mu):
    task = ClientTask(
        round=3,
        client=1,
        lr=lr,
        training=Training(),
        role=role,
        defenses=defenses,
        proximal_mu=mu,
        history=None,
    )
    assert ClientTask.model_validate_json(task.model_dump_json()) == task


def test_defense_names_are_joined():
    orders = {"round": 1, "client": 0, "lr": 0.1, "training": Training()}
    assert ClientTask(**orders).defense_names == "none"
    assert ClientTask(**orders, defenses=(DPInstaHide(),)).defense_names == "dp-instahide"
    assert (
        ClientTask(**orders, defenses=(DPInstaHide(), DPSGD())).defense_names
        == "dp-instahide+dp-sgd"
    )


def test_unknown_task_key_is_refused():
    with pytest.raises(BadInput, match="extra"):
        ClientTask(round=1, client=0, lr=0.1, training=Training(), extra=1)


def test_a_task_of_this_process_is_not_read_again(monkeypatch):
    task = ClientTask(round=1, client=2, lr=0.1, training=Training())
    text = task.to_text()
    assert ClientTask.read(text) is task
    monkeypatch.setattr("fedlab.protocol.task._WRITTEN", {})
    again = ClientTask.read(text)  # as in any other process
    assert again == task
    assert again is not task
