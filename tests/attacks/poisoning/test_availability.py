"""Tests of availability poisons."""

import pytest
import torch
from torch.nn import functional

from attacks.poisoning.availability import (
    PGD,
    adversarial_poisons,
    misalign_training,
    reverse_cross_entropy,
)
from attacks.poisoning.crafting import CraftSettings
from tests.attacks.poisoning.networks import clever, digits, seeded, surrogate
from tests.attacks.poisoning.networks import logits as logits_of


def shard():
    """Fifty digits that the network does not know."""
    images, labels = digits()
    return images[-50:], labels[-50:]


@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
def test_reverse_loss_and_gradient_match_definition(scale):
    logits = scale * torch.randn(40, 7, generator=seeded(), dtype=torch.float64)
    labels = torch.randint(7, (40,), generator=seeded(1))
    found, naive = (logits.clone().requires_grad_() for _ in range(2))
    loss = reverse_cross_entropy(found, labels)
    own = functional.softmax(naive, dim=1)[torch.arange(40), labels]
    expected = -torch.log(1 - own).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, found)[0], torch.autograd.grad(expected, naive)[0]
    )


@pytest.mark.parametrize("margin", [30.0, 300.0, 3000.0])
def test_reverse_loss_is_finite_at_extremes(margin):
    logits = torch.tensor([[margin, 0.0, 0.0]], requires_grad=True)
    loss = reverse_cross_entropy(logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(margin - torch.log(torch.tensor(2.0)).item())
    (slope,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(slope, torch.tensor([[1.0, -0.5, -0.5]]))
    unlikely = reverse_cross_entropy(logits, torch.tensor([1]))
    assert 0 <= unlikely.item() < 1e-9
    assert torch.isfinite(torch.autograd.grad(unlikely, logits)[0]).all()


def reversed_gradient(model):
    """Of the mean of -log(1 - p_y) over all images, by autograd in float64."""
    exact, (images, labels) = model.double(), shard()
    own = functional.softmax(exact(images.double() / 255 * 2 - 1), dim=1)
    loss = -torch.log(1 - own[torch.arange(50), labels]).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(exact.parameters()))])


def misalignment(images):
    """The mean over partitions of 1 less the cosine with that gradient."""
    wanted, total = reversed_gradient(clever(3)), []
    exact, (_, labels) = clever(3).double(), shard()
    for places in torch.arange(50).split(20):
        logits = exact(images[places].double() / 255 * 2 - 1)
        loss = functional.cross_entropy(logits, labels[places])
        found = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(exact.parameters()))]
        )
        total.append(1 - float(functional.cosine_similarity(wanted, found, dim=0)))
    return sum(total) / 3


def test_gradient_opposes_training():
    images, labels = shard()
    found = misalign_training(
        [surrogate(clever(3))],
        images,
        labels,
        settings=CraftSettings(steps=30, restarts=1),
        partition=20,
        generator=seeded(),
    )
    assert found.images.shape == images.shape
    assert found.costs.shape == (1, 30)
    assert misalignment(images) > 1  # training on clean images is its opposite
    assert misalignment(found.images) < misalignment(images) - 0.2
    assert float(found.costs[0, -1]) == pytest.approx(misalignment(found.images), abs=0.05)
    change = (found.images.int() - images.int()).abs()
    assert change.flatten(1).any(1).all()
    assert int(change.max()) == 16


def test_partitions_are_independent():
    """The first images come out the same whatever follows."""

    def made(images, labels):
        return adversarial_poisons(
            [surrogate(clever(3))],
            images,
            labels,
            num_classes=10,
            settings=CraftSettings(steps=4, restarts=1),
            partition=20,
            generator=seeded(),
        ).images

    images, labels = shard()
    assert torch.equal(made(images, labels)[:20], made(images[:20], labels[:20]))


@pytest.mark.parametrize("count", [1, 2])
def test_adversarial_poisons_predicted_as_next_class(count):
    networks = [clever(3), clever(4)][:count]
    images, labels = shard()
    found = adversarial_poisons(
        [surrogate(n) for n in networks],
        images,
        labels,
        num_classes=10,
        settings=CraftSettings(epsilon=96 / 255, steps=30, restarts=1, lr=10 / 255, rule="pgd"),
        generator=seeded(),
    )
    intended = (labels + 1) % 10
    for model in networks:
        assert (logits_of(model, found.images).argmax(1) == intended).double().mean() > 0.8
        assert (logits_of(model, images).argmax(1) == intended).double().mean() < 0.3
    assert int((found.images.int() - images.int()).abs().max()) == 96
    assert PGD.lr == pytest.approx(0.05 * PGD.epsilon)
