"""Clients train towards a norm as the paper's loop does, after the noise, alone and in lockstep."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.client.lockstep import train_stacked
from fedlab.core.errors import BadInput
from fedlab.core.seeds import generator
from fedlab.protocol.planning import task_for
from tests.client.test_lockstep import assert_close
from tests.client.test_recorded_steps import Machine
from tests.evaluation.test_replay import Case
from tests.federations import finished, small

DECAY = 0.1
TRAINING = {"epochs": 2, "batch_size": 16, "lr": 0.05, "momentum": 0.9, "weight_decay": DECAY}
TARGETS = [1.0, 7.0, 500.0]
"""Below the squared norm of the network, near it, and above it."""


def client(target, **tables):
    scenario = small(training=TRAINING | {"norm_target": target}, **tables)
    federated = FederatedData.of(scenario)
    return federated, federated.state, task_for(scenario, round=1, client=1)


@pytest.mark.parametrize("target", TARGETS)
def test_client_equals_the_papers_loop(target):
    federated, state, task = client(target)
    sent = run_client_round(task, federated, state, ()).sent.tensors
    federated.load(state)
    model, shard = federated.model, federated.shard(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    order = generator(federated.seed, "batches", 1, 1)
    for _ in range(2):
        for members in torch.randperm(40, generator=order).split(16):
            optimizer.zero_grad()
            images = federated.network_input(shard.images[members])
            functional.cross_entropy(model(images), shard.labels[members]).backward()
            squared = sum(float(p.detach().square().sum()) for p in model.parameters())
            for parameter in model.parameters():
                change = DECAY * parameter.detach()
                parameter.grad += change if squared > target else -change
            optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(sent[name], parameter.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_stacked_clients_have_norms_of_their_own(target):
    federated, state, _ = client(target)
    scenario = small(training=TRAINING | {"norm_target": target})
    tasks = [task_for(scenario, round=1, client=each) for each in range(4)]
    for task, stacked in zip(tasks, train_stacked(tasks, federated, state), strict=True):
        assert_close(stacked, run_client_round(task, federated, state, ()).sent, state)


def test_replayed_steps_send_the_same_bits():
    machine = Machine("training.epochs=2", "training.weight_decay=0.1", "training.norm_target=7")
    assert all(machine.is_same(round=1, client=each) for each in (0, 1, 2))
    assert machine.replays[0] > 0


def test_term_comes_after_the_noise_and_costs_no_epsilon():
    private = {"defenses": [{"name": "dp-sgd", "noise_multiplier": 1.0, "clipping_norm": 0.1}]}
    once = {"epochs": 1, "batch_size": 40, "lr": 0.05, "weight_decay": DECAY}
    runs = {}
    for target in (0.0, 500.0):
        scenario = small(training=once | {"norm_target": target}, **private)
        federated = FederatedData.of(scenario)
        state = federated.state
        task = task_for(scenario, round=1, client=0)
        runs[target] = run_client_round(task, federated, state, ())
    shrinking, growing = (runs[target].sent.tensors for target in (0.0, 500.0))
    for name, weights in state.items():
        # Weight decay shrinks and the norm bias grows: all else, noise included, is the same.
        expected = 2 * 0.05 * DECAY * weights
        torch.testing.assert_close(growing[name] - shrinking[name], expected, rtol=1e-4, atol=1e-6)
    assert runs[0.0].history == runs[500.0].history


@pytest.mark.parametrize("target", [1.0, 500.0])
def test_attacker_simulates_the_term(target):
    case = Case("", f"training.norm_target={target}", "training.weight_decay=0.1")
    assert case.truth.payload_cosine > 0.999999
    assert case.held().relative_error < 1e-3
    other = replace(case.capture.facts.local_sgd, norm_target=0.0 if target > 1 else 500.0)
    assert case.held(local=other).relative_error > 1e-2


def test_norm_goes_to_its_target():
    norms = {}
    for target in (0.0, 12.0):
        training = {"lr": 0.1, "weight_decay": 0.2, "norm_target": target, "epochs": 4}
        federation = finished(small(training=training))
        norms[target] = sum(float(each.square().sum()) for each in federation.state.values())
    assert norms[12.0] == pytest.approx(12.0, rel=0.05)
    assert norms[0.0] < 3


def test_target_without_decay_is_refused():
    with pytest.raises(BadInput, match="norm_target has no effect without weight_decay"):
        small("training.norm_target=3")
