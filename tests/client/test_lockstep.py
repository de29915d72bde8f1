"""Clients that train in lockstep send what they send alone, but for rounding."""

import pytest
import torch
from torch import nn

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.client.lockstep import Lockstep, train_stacked
from fedlab.data.images import ImageData
from fedlab.protocol.planning import task_for
from tests.federations import FORGETFUL, small

TOLERANCE = 1e-5
"""Largest norm of the difference between two updates, over the norm of one."""


def prepared(*overrides, mu=0.0, clients=range(4), round=2, **tables):
    """Data, global state and tasks of a round whose learning rate is not that of the first."""
    scenario = small("training.lr_decay=0.5", *overrides, **tables)
    federated = FederatedData.of(scenario)
    tasks = [task_for(scenario, round=round, client=each, proximal_mu=mu) for each in clients]
    return federated, federated.state, tasks


def assert_close(stacked, alone, state):
    assert (stacked.kind, stacked.num_examples, stacked.steps) == (
        alone.kind,
        alone.num_examples,
        alone.steps,
    )
    assert list(stacked.tensors) == list(alone.tensors)
    for name, weights in alone.tensors.items():
        update = weights - state[name]
        difference = stacked.tensors[name] - weights
        # Weights are stored to 24 bits, however small their change.
        assert difference.norm() <= TOLERANCE * update.norm() + 2**-22 * weights.norm(), name


@pytest.mark.parametrize("network", ["lenet", "convnet", "mlp"])
@pytest.mark.parametrize(
    ("momentum", "decay", "mu"), [(0.0, 0.0, 0.0), (0.9, 0.01, 0.0), (0.5, 0.0, 0.3)]
)
def test_stacked_clients_send_what_they_send_alone(network, momentum, decay, mu):
    # Forty images in batches of sixteen: the last of an epoch has eight.
    federated, state, tasks = prepared(
        f"training.momentum={momentum}",
        f"training.weight_decay={decay}",
        "training.epochs=2",
        model={"name": network} | ({} if network == "lenet" else {"width": 8}),
        mu=mu,
    )
    for task, stacked in zip(tasks, train_stacked(tasks, federated, state), strict=True):
        alone = run_client_round(task, federated, state, ()).sent
        assert_close(stacked, alone, state)


def test_a_deep_network_sends_the_same_in_float64(monkeypatch):
    """In float32 rounding moves some of its ReLUs across zero, which changes more than digits."""
    model = {"name": "resnet18", "width": 8}
    federated, state, tasks = prepared("training.momentum=0.5", model=model, mu=0.3)
    federated.model.double()
    normalise = ImageData.normalise
    monkeypatch.setattr(ImageData, "normalise", lambda data, each: normalise(data, each.double()))
    state = {name: value.double() for name, value in state.items()}
    for task, stacked in zip(tasks, train_stacked(tasks, federated, state), strict=True):
        alone = run_client_round(task, federated, state, ()).sent
        for name, weights in alone.tensors.items():
            assert (stacked.tensors[name] - weights).norm() <= 1e-11 * weights.norm(), name


def test_large_shards_are_converted_batch_by_batch(monkeypatch):
    federated, state, tasks = prepared()
    at_once = train_stacked(tasks, federated, state)
    monkeypatch.setattr("fedlab.client.lockstep.AT_ONCE", 0)
    in_parts = train_stacked(tasks, federated, state)
    for one, other in zip(at_once, in_parts, strict=True):
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def half_frozen(shape, classes):
    """A network whose first layer is not trained, and whose second layer is not used."""
    channels, height, width = shape
    first = nn.Linear(channels * height * width, 8).requires_grad_(False)
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(8, classes))
    network.unused = nn.Linear(2, 2)
    network.forward = lambda images: nn.Sequential(*list(network)[:4])(images)
    return network


def test_frozen_and_unused_parameters_stay():
    name = {"name": "factory", "factory": "tests.client.test_lockstep:half_frozen"}
    federated, state, tasks = prepared("training.weight_decay=0.1", model=name)
    (stacked, *_), alone = (
        train_stacked(tasks, federated, state),
        run_client_round(tasks[0], federated, state, ()).sent,
    )
    assert_close(stacked, alone, state)
    for same in ("1.weight", "unused.weight"):
        assert torch.equal(stacked.tensors[same], state[same])
    assert not torch.equal(stacked.tensors["3.weight"], state["3.weight"])


def test_batchnorm_in_training_mode_is_refused():
    norm = {"name": "convnet", "width": 4, "norm": "batch"}
    federated, state, tasks = prepared(model=norm)
    with pytest.raises(ValueError, match="BatchNorm"):
        train_stacked(tasks, federated, state)


def test_batchnorm_in_evaluation_mode_is_stacked():
    federated, state, tasks = prepared(
        "training.mode=eval", model={"name": "convnet", "width": 4, "norm": "batch"}
    )
    for task, stacked in zip(tasks, train_stacked(tasks, federated, state), strict=True):
        assert_close(stacked, run_client_round(task, federated, state, ()).sent, state)


def groups(federated, tasks, most):
    """The clients that train together, as lists of partition ids."""
    lockstep, found = Lockstep(federated, most), []
    for together, _ in lockstep._groups(tasks):
        found.append([task.client for task in together])
    return found


def test_clients_are_grouped_by_images_and_number():
    # 130 images among four clients: 33, 33, 32 and 32.
    federated, state, tasks = prepared("data.train=130")
    assert sorted(federated.sizes.values()) == [32, 32, 33, 33]
    pairs = [(task, state) for task in tasks]
    assert groups(federated, pairs, 8) == [[0, 1], [2, 3]]
    federated, state, tasks = prepared()
    pairs = [(task, state) for task in tasks]
    assert groups(federated, pairs, 3) == [[0, 1, 2]]
    assert groups(federated, pairs, 2) == [[0, 1], [2, 3]]


def test_who_trains_otherwise_trains_alone():
    federated, state, tasks = prepared(
        clients=range(8),
        data={"source": "digits", "train": 160, "test": 80, "clients": 8},
        roles=[
            {"role": "leaking", "clients": "0"},
            {"role": "poisoning", "clients": "1", "data": {"attack": "label-flip"}},
        ],
        defenses=[
            {"name": "dp-sgd", "clients": "2"},
            {"name": "mixup", "clients": "3"},
            {"name": "soteria", "clients": "4"},
            {"name": "pruning", "clients": "5"},
            {"name": "secure-aggregation", "clients": "6-7"},
        ],
    )
    assert groups(federated, [(task, state) for task in tasks], 8) == [[5, 6, 7]]


def test_clients_with_other_states_are_not_stacked():
    federated, state, tasks = prepared()
    fished = dict(state)
    pairs = [(task, fished if task.client % 2 else state) for task in tasks]
    assert groups(federated, pairs, 8) == [[0, 2], [1, 3]]


def test_what_cannot_be_stacked_is_tried_once(caplog):
    federated, state, tasks = prepared(model=FORGETFUL)
    lockstep = Lockstep(federated, 2)
    for _ in range(2):
        lockstep.train([(task, state) for task in tasks], seconds=None)
    assert [lockstep.take(client) for client in range(4)] == [None] * 4
    assert caplog.text.count("clients train one after another, not in lockstep") == 1


def test_payloads_of_an_earlier_round_are_forgotten():
    federated, state, tasks = prepared()
    lockstep = Lockstep(federated, 4)
    lockstep.train([(task, state) for task in tasks], seconds=None)
    assert lockstep.take(0) is not None
    assert lockstep.take(0) is None
    lockstep.train([], seconds=None)
    assert lockstep.take(1) is None
