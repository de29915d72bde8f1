"""A perturbed learning rate is another learning rate, and no defense against directions."""

from dataclasses import replace

import pytest
import torch

from attacks.payload import Payload
from attacks.reconstruction import PRESETS
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.objectives import cosine, squared_error
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.protocol.planning import task_for
from tests.defenses.updates import known
from tests.federations import small

DEFENSE = {"name": "lr-perturbation", "spread": 0.8}


def sent(*, round=1, client=0, lr=None, defended=True, momentum=0.0, **tables):
    """What a client sends, with another learning rate in place of the defense if one is given."""
    scenario = small(f"training.momentum={momentum}", defenses=[DEFENSE] * defended, **tables)
    federated = FederatedData.of(scenario)
    task = task_for(scenario, round=round, client=client)
    task = task.model_copy(update={"lr": task.lr if lr is None else lr})
    state = federated.state
    return run_client_round(task, federated, state, ()).sent, state, task


def length(payload, state):
    return float(torch.cat([(t - state[n]).flatten() for n, t in payload.tensors.items()]).norm())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_all_steps_use_one_other_learning_rate(momentum):
    tables = {"data": {"train": 160, "test": 80, "clients": 4}}
    perturbed, _, task = sent(momentum=momentum, **tables)
    gradient = {"roles": [{"role": "leaking", "clients": "all"}]}
    scaled, _, _ = sent(**gradient)
    plain, _, _ = sent(defended=False, **gradient)
    factor = float(scaled.tensors["0.weight"].norm() / plain.tensors["0.weight"].norm())
    assert 0.2 < factor < 1.8
    assert abs(factor - 1) > 0.01
    other, _, _ = sent(defended=False, lr=factor * task.lr, momentum=momentum, **tables)
    for name, tensor in perturbed.tensors.items():
        torch.testing.assert_close(tensor, other.tensors[name], rtol=1e-4, atol=1e-6)


def test_every_round_and_client_draws_anew():
    lengths = [length(*sent(round=r, client=c)[:2]) for r, c in ((1, 0), (2, 0), (1, 1))]
    assert len(set(lengths)) == 3


def test_direction_of_one_step_stays():
    roles = {"roles": [{"role": "leaking", "clients": "all"}]}
    scaled, plain = sent(**roles)[0].tensors, sent(defended=False, **roles)[0].tensors
    assert float(cosine(scaled)(plain)) == pytest.approx(0, abs=1e-6)
    assert float(squared_error(scaled)(plain)) > 0


def test_attack_on_lengths_is_adapted_to_directions():
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    assert adapted(PRESETS["dlg"], payload, known("lr-perturbation")).objective == "cosine"
    plain = PRESETS["fast"]
    assert adapted(plain, payload, known("lr-perturbation")) == plain
    assert adapted(replace(plain, objective="l2"), payload, known()).objective == "l2"
