"""Second derivatives of frozen layers are those of PyTorch, with fewer convolutions."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from attacks import gradients, second_derivatives
from attacks.gradients import batch_gradient, unroll
from attacks.knowledge import LocalSGD
from attacks.second_derivatives import FrozenWeights
from fedlab.models import build


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    monkeypatch.setattr(second_derivatives, "LEAST", 0)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def twice(call, images, weights, *, frozen):
    """Gradients of the weights, and the gradient of a function of them by the images."""
    images = images.clone().requires_grad_()
    weights = [each.clone().requires_grad_() for each in weights]
    with FrozenWeights(weights, images) if frozen else nullcontext():
        found = torch.autograd.grad(
            call(images.sin(), *weights).tanh().square().sum(), weights, create_graph=True
        )
    ways = [drawn(*each.shape, seed=index) for index, each in enumerate(found)]
    return *found, torch.autograd.grad(found, images, [w.to(images) for w in ways])[0]


SHAPES = [
    {},
    {"padding": 1, "stride": 2},
    {"padding": (1, 0), "stride": (1, 2), "groups": 2},
    {"dilation": 2, "padding": (2,)},
    {"padding": "same"},
]


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_convolutions_have_the_bits_of_pytorch(shape, biased, precision):
    weights = [drawn(6, 4 // shape.get("groups", 1), 3, 3), drawn(5, 6, 1, 1)]
    weights = [each.to(precision) for each in (*weights, *([drawn(6)] if biased else []))]

    def call(images, weight, last, bias=None):
        inner = functional.conv2d(images, weight, bias, **shape).sigmoid()
        return functional.conv2d(input=inner, weight=last)

    images = drawn(2, 4, 7, 6, seed=1).to(precision)
    plain, ours = (twice(call, images, weights, frozen=frozen) for frozen in (False, True))
    assert all(torch.equal(one, other) for one, other in zip(plain, ours, strict=True))


@pytest.mark.parametrize("sides", [(7, 6), (5,), ()])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm_agrees_with_pytorch(groups, sides):
    weights = [1 + drawn(6) / 4, drawn(6, seed=1), drawn(3, 6, seed=2)]

    def call(images, weight, bias, last):
        inner = functional.group_norm(images, groups, weight, bias, eps=1e-2)
        return (inner.flatten(2).sum(2) if sides else inner).sigmoid() @ last.T

    images = drawn(2, 6, *sides, seed=3)
    plain, ours = (twice(call, images, weights, frozen=frozen) for frozen in (False, True))
    for one, other in zip(plain, ours, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)


def simulated(monkeypatch, name, *, frozen, steps=None):
    """The gradient of the images through a simulated client, in float64."""
    if not frozen:
        monkeypatch.setattr(gradients, "FrozenWeights", lambda *_: nullcontext())
    model = build(name, shape=(3, 9, 9), classes=10, width=4).double().eval()
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    images, labels = drawn(4, 3, 9, 9).requires_grad_(), torch.arange(4)
    state = parameters, dict(model.named_buffers()), images, labels
    if steps is None:
        found = batch_gradient(model, *state, create_graph=True)
    else:
        local = LocalSGD(0.1, epochs=steps, batch_size=4)
        found = unroll(model, *state, local=local, create_graph=True)
    sum((g * drawn(*g.shape)).sum() for g in found.values()).backward(inputs=[images])
    return images.grad


@pytest.mark.parametrize("name", ["resnet8", "convnet8"])
@pytest.mark.parametrize("steps", [None, 3, gradients.KEPT_STEPS + 1])
def test_a_simulated_client_keeps_its_derivative(name, steps, monkeypatch):
    ours = simulated(monkeypatch, name, frozen=True, steps=steps)
    plain = simulated(monkeypatch, name, frozen=False, steps=steps)
    torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-10 * float(plain.abs().max()))


def test_callers_weights_keep_second_derivatives():
    model = build("resnet8", shape=(3, 9, 9), classes=10, width=4)
    parameters = dict(model.named_parameters())
    found = batch_gradient(
        model, parameters, {}, torch.rand(2, 3, 9, 9), torch.arange(2), create_graph=True
    )
    cost = sum(each.square().sum() for each in found.values())
    slopes = torch.autograd.grad(cost, list(parameters.values()))
    assert all(slope.any() for slope in slopes)


class Checkpointed(nn.Module):
    """A network that computes its layers once more in the backward pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.Sigmoid())
        self.last = nn.Linear(4 * 4 * 4, 10)

    def forward(self, images):
        body = checkpoint(self.body, self.first(images), use_reentrant=False)
        return self.last(body.flatten(1))


def test_checkpointed_layers_keep_their_derivative(monkeypatch):
    found = []
    for frozen in (FrozenWeights, lambda *_: nullcontext()):
        monkeypatch.setattr(gradients, "FrozenWeights", frozen)
        model = Checkpointed().double()
        parameters = {n: p.detach() for n, p in model.named_parameters()}
        images = drawn(2, 3, 8, 8).requires_grad_()
        simulated = batch_gradient(
            model, parameters, {}, images, torch.arange(2), create_graph=True
        )
        sum(each.square().sum() for each in simulated.values()).backward(inputs=[images])
        found.append(images.grad)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_third_derivatives_of_group_norm_are_refused():
    images = drawn(2, 4, 5).requires_grad_()
    weights = [drawn(4).requires_grad_(), drawn(4).requires_grad_()]
    with FrozenWeights(weights, images):
        result = functional.group_norm(images, 2, *weights).tanh().sum()
    slopes = torch.autograd.grad(result, weights, create_graph=True)
    cost = sum(slope.square().sum() for slope in slopes)
    (second,) = torch.autograd.grad(cost, images, create_graph=True)
    with pytest.raises(RuntimeError, match=r"not implemented|once_differentiable"):
        torch.autograd.grad(second.sum(), images)


class Counted(TorchDispatchMode):
    """Counts convolutions and their derivatives."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "convolution" in func.__name__
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("frozen", "products"), [(False, 8), (True, 7)])
def test_no_convolution_is_for_the_weights(frozen, products):
    """Four of the second layer, and three of the first, whose input's gradient nobody takes."""
    weights = [drawn(6, 4, 3, 3).requires_grad_(), drawn(6, 6, 3, 3).requires_grad_()]
    images = drawn(2, 4, 9, 9).requires_grad_()
    with FrozenWeights(weights, images) if frozen else nullcontext():
        result = functional.conv2d(functional.conv2d(images, weights[0]), weights[1])
        found = torch.autograd.grad(result.sin().sum(), weights, create_graph=True)
    with Counted() as counted:
        torch.autograd.grad(found, images, [drawn(*each.shape) for each in found])
    assert counted.count == products
