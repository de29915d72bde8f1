"""Simulated gradients and local SGD against PyTorch's own autograd and optimiser, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.gradients import batch_gradient, clipped_gradient, unroll
from attacks.knowledge import LocalSGD
from fedlab.defenses.private_gradient import PrivateGradient


def network(*, norm=False, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3) if norm else nn.Identity(), nn.Tanh()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 16, 4)).double()


def batch(n=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, 6, 6, generator=generator, dtype=torch.float64)
    return images, torch.randint(4, (n,), generator=generator)


def parts(model):
    return dict(model.named_parameters()), dict(model.named_buffers())


def by_backward(model, images, labels):
    model.zero_grad()
    functional.cross_entropy(model(images), labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_same(one, other, **tolerance):
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance)


@pytest.mark.parametrize("soft", [False, True])
def test_batch_gradient_is_autograds(soft):
    model, (images, labels) = network(), batch()
    if soft:
        labels = torch.softmax(torch.randn(5, 4, dtype=torch.float64), 1)
    assert_same(
        batch_gradient(model, *parts(model), images, labels), by_backward(model, images, labels)
    )


def test_it_can_be_differentiated_again_by_the_images():
    model, (images, labels) = network(), batch(2)

    def squared(candidate):
        found = batch_gradient(model, *parts(model), candidate, labels, create_graph=True)
        return sum(g.square().sum() for g in found.values())

    assert torch.autograd.gradcheck(squared, images.requires_grad_())


def test_training_mode_changes_no_tensor():
    model, (images, labels) = network(norm=True).train(), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch_gradient(model, *parts(model), images, labels)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_unused_parameter_has_a_zero_gradient():
    model, (images, labels) = network(), batch()
    model.register_parameter("idle", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    found = batch_gradient(model, *parts(model), images, labels)
    assert torch.equal(found["idle"], torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("norm", [0.05, 0.5, 100.0])
def test_clipped_gradient_matches_micro_batches(norm):
    model, (images, labels) = network(), batch()
    expected = dict.fromkeys(dict(model.named_parameters()), 0)
    for index in range(5):
        one = by_backward(model, images[index : index + 1], labels[index : index + 1])
        length = torch.cat([g.flatten() for g in one.values()]).norm()
        factor = min(1.0, norm / float(length + 1e-6))
        expected = {name: expected[name] + factor * g / 5 for name, g in one.items()}
    found = clipped_gradient(model, *parts(model), images, labels, clipping_norm=norm)
    assert_same(found, expected)


def test_clipped_gradient_is_opacus_own():
    model, (images, labels) = network().float(), batch()
    images = images.float()
    found = clipped_gradient(model, *parts(model), images, labels, clipping_norm=0.3)
    private = PrivateGradient(
        model,
        clipping_norm=0.3,
        noise_multiplier=0.0,
        expected_batch_size=5,
        generator=torch.Generator().manual_seed(0),
    )
    private(images, labels)
    assert_same(found, {name: p.grad for name, p in model.named_parameters()})
    private.close()


def assert_unrolled(found, model, optimizer, epochs, size, *, rtol):
    """Train the model with torch's optimizer and compare its weights with the unrolled ones."""
    images, labels = batch()
    for _ in range(epochs):
        for block, targets in zip(images.split(size), labels.split(size), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(block), targets).backward()
            optimizer.step()
    assert_same(
        {name: value.detach() for name, value in found.items()},
        {name: p.detach() for name, p in model.named_parameters()},
        rtol=rtol,
        atol=1e-12,
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize(("epochs", "size"), [(1, 5), (2, 2), (3, 1)])
def test_unroll_is_torchs_sgd(momentum, weight_decay, epochs, size):
    model, (images, labels) = network(), batch()
    local = LocalSGD(0.1, momentum, weight_decay, epochs, size)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = unroll(model, start, dict(model.named_buffers()), images, labels, local=local)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay
    )
    assert_unrolled(found, model, optimizer, epochs, size, rtol=1e-12)


def test_unroll_can_be_differentiated_by_the_images():
    model, (images, labels) = network(), batch(2)
    local = LocalSGD(0.1, 0.5, 0.01, 2, 1)
    start = {name: p.detach() for name, p in model.named_parameters()}

    def final(candidate):
        after = unroll(model, start, {}, candidate, labels, local=local, create_graph=True)
        return sum(value.square().sum() for value in after.values())

    assert torch.autograd.gradcheck(final, images.requires_grad_())


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_that_of_the_networks_mode(training):
    model, (images, labels) = network(norm=True).train(training), batch()
    found = batch_gradient(model, *parts(model), images, labels)
    assert_same(found, by_backward(model, images, labels))


def test_clipped_gradient_is_differentiable():
    model, (images, labels) = network(), batch(2)

    def squared(candidate):
        found = clipped_gradient(
            model, *parts(model), candidate, labels, clipping_norm=0.3, create_graph=True
        )
        # Not the norm, which clipping makes constant.
        return sum((index + 1) * g.square().sum() for index, g in enumerate(found.values()))

    assert torch.autograd.gradcheck(squared, images.requires_grad_())


def test_clipped_unroll_matches_opacus():
    """Two epochs with a ragged last block, whose sum is divided by its own size."""
    model, (images, labels) = network().float(), batch()
    images = images.float()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    local = LocalSGD(0.1, momentum=0.9, weight_decay=0.01, epochs=2, batch_size=2)
    found = unroll(model, start, {}, images, labels, local=local, clipping_norm=0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        for block, targets in zip(images.split(2), labels.split(2), strict=True):
            private = PrivateGradient(
                model,
                clipping_norm=0.3,
                noise_multiplier=0.0,
                expected_batch_size=len(block),
                generator=torch.Generator().manual_seed(0),
            )
            private(block, targets)
            optimizer.step()
            private.close()
    assert_same(
        {name: value.detach() for name, value in found.items()},
        {name: p.detach() for name, p in model.named_parameters()},
    )
    unclipped = unroll(model, start, {}, images, labels, local=local)
    assert not torch.allclose(unclipped["0.weight"], found["0.weight"])


def test_unroll_with_soft_labels_has_no_side_effects():
    model, (images, _) = network(norm=True).train(), batch()
    generator = torch.Generator().manual_seed(3)
    labels = torch.softmax(torch.randn(5, 4, generator=generator, dtype=torch.float64), 1)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    before = {name: value.clone() for name, value in (start | dict(model.named_buffers())).items()}
    found = unroll(
        model, start, dict(model.named_buffers()), images, labels, local=LocalSGD(0.1, epochs=2)
    )
    assert all(
        torch.equal(value, before[name])
        for name, value in (start | dict(model.named_buffers())).items()
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for block, targets in zip(images.split(1), labels.split(1), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(block), targets).backward()
            optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name].detach(), parameter.detach())


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("epochs", "size"), [(1, 5), (2, 2), (3, 1)])
def test_unroll_is_torchs_adam(name, weight_decay, epochs, size):
    model, (images, labels) = network(), batch()
    local = LocalSGD(0.01, 0, weight_decay, epochs, size, optimiser=name, betas=(0.8, 0.99))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = unroll(model, start, {}, images, labels, local=local)
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimizer = make(model.parameters(), lr=0.01, betas=(0.8, 0.99), weight_decay=weight_decay)
    assert_unrolled(found, model, optimizer, epochs, size, rtol=1e-10)


def test_unrolled_adam_can_be_differentiated():
    model, (images, labels) = network(), batch(2)
    # A large eps, because with a small one a step is a sign, whose derivative is 0.
    local = LocalSGD(0.1, 0, 0.01, 2, 1, optimiser="adam", eps=0.1)
    start = {name: p.detach() for name, p in model.named_parameters()}

    def final(candidate):
        after = unroll(model, start, {}, candidate, labels, local=local, create_graph=True)
        return sum(value.square().sum() for value in after.values())

    assert torch.autograd.gradcheck(final, images.requires_grad_())


def test_adams_derivative_is_finite_at_a_zero_gradient():
    model, (images, labels) = network(), batch(2)
    model.register_parameter("idle", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    images.requires_grad_()
    start = {name: p.detach() for name, p in model.named_parameters()}
    local = LocalSGD(0.1, epochs=2, optimiser="adam")
    after = unroll(model, start, {}, images, labels, local=local, create_graph=True)
    (slope,) = torch.autograd.grad(sum(each.sum() for each in after.values()), images)
    assert torch.isfinite(slope).all()
    assert torch.equal(after["idle"], start["idle"])
