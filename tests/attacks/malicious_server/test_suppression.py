"""Tests of gradient suppression: dead networks, and the target's update out of a sum."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call

from attacks.gradients import batch_gradient, unroll
from attacks.knowledge import LocalSGD
from attacks.malicious_server.suppression import (
    check_suppression,
    contaminated,
    decay_factor,
    separate,
    suppress,
)
from attacks.payload import Payload
from fedlab.models import build

SHAPE, CLASSES, EACH = (3, 16, 16), 5, (8, 8, 4, 12)
LOCAL = LocalSGD(lr=0.05, momentum=0.5, weight_decay=1e-2, epochs=2, batch_size=4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(name="convnet", **options):
    return build(name, shape=SHAPE, classes=CLASSES, width=8, seed=1, **options)


def parameters_of(model):
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def images_of(client):
    shape = (EACH[client], *SHAPE)
    draws = seeded(client)
    return torch.randn(shape, generator=draws), torch.randint(
        CLASSES, (EACH[client],), generator=draws
    )


def summed(replies, kind, steps):
    total = sum(EACH)
    mean = {
        name: torch.stack([r[name] * (n / total) for r, n in zip(replies, EACH, strict=True)]).sum(
            0
        )
        for name in replies[0]
    }
    return Payload(kind, mean, num_examples=total, steps=steps)


def update_of(model, parameters, client):
    return unroll(model, parameters, {}, *images_of(client), local=LOCAL)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {}),
        ("convnet", {}),
        ("convnet", {"norm": "group"}),
        ("convnet", {"norm": "batch"}),
        ("resnet8", {"norm": "group"}),
        ("resnet8", {"norm": "batch"}),
    ],
)
def test_only_the_last_bias_has_a_gradient(name, options):
    model = network(name, **options)
    check_suppression(model, shape=SHAPE, generator=seeded())
    parameters = parameters_of(model)
    dead = suppress(parameters)
    buffers = dict(model.named_buffers())
    gradient = batch_gradient(model, dead, buffers, *images_of(0))
    assert {name for name, tensor in gradient.items() if tensor.any()} == contaminated(parameters)
    assert set(dead) == set(parameters)


def test_no_unit_of_a_suppressed_network_is_active():
    model = network()
    seen = []
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _, __, output: seen.append(float(output.max())))
    functional_call(model, suppress(parameters_of(model)), (100 * images_of(0)[0],))
    assert seen == [0.0, 0.0]


@pytest.mark.parametrize(
    "model",
    [
        network("lenet"),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, CLASSES)),
        nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Tanh(), nn.Linear(8, CLASSES)),
    ],
)
def test_a_network_without_relu_is_refused(model):
    with pytest.raises(ValueError, match="has a gradient although weights are 0"):
        check_suppression(model, shape=SHAPE, generator=seeded())


def test_a_last_layer_without_bias_hides_nothing():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, CLASSES, bias=False)
    )
    check_suppression(model, shape=SHAPE, generator=seeded())
    assert contaminated(parameters_of(model)) == frozenset()


def test_a_sum_of_gradients_is_the_targets():
    model = network()
    start = parameters_of(model)
    dead = suppress(start)
    replies = [
        batch_gradient(model, start if client == 1 else dead, {}, *images_of(client))
        for client in range(4)
    ]
    found = separate(
        summed(replies, "gradient", 1), start, local=LOCAL, num_images=EACH[1], single_batch=True
    )
    assert (found.payload.num_examples, found.share) == (8, 0.25)
    assert set(start) - set(found.payload.tensors) == {"7.bias"}
    for name, tensor in found.payload.tensors.items():
        torch.testing.assert_close(tensor, replies[1][name], rtol=1e-5, atol=1e-8)


def test_a_sum_of_weights_is_the_targets_despite_decay():
    model = network()
    start = parameters_of(model)
    dead = suppress(start)
    same = replace(LOCAL, epochs=1, batch_size=12)  # as many steps at every client
    replies = [
        unroll(model, start if client == 2 else dead, {}, *images_of(client), local=same)
        for client in range(4)
    ]
    payload = summed(replies, "weights", 1)
    found = separate(payload, start, local=same, num_images=0, single_batch=False)
    assert found.payload.num_examples == EACH[2]
    for name, tensor in found.payload.tensors.items():
        moved, true = tensor - start[name], replies[2][name] - start[name]
        assert float((moved - true).norm() / true.norm()) < 1e-4
    step = separate(payload, start, local=same, num_images=0, single_batch=True).payload
    assert step.kind == "gradient"
    expected = (start["0.weight"] - replies[2]["0.weight"]) / same.lr
    torch.testing.assert_close(step.tensors["0.weight"], expected, rtol=1e-3, atol=1e-6)


def test_decay_is_that_of_sgd_without_gradient():
    model = network()
    dead = suppress(parameters_of(model))
    after = update_of(model, dead, 0)
    factor = decay_factor(LOCAL, LOCAL.steps(EACH[0]))
    assert factor < 1
    torch.testing.assert_close(after["0.bias"], factor * dead["0.bias"])
