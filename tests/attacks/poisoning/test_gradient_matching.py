"""Tests of gradient matching."""

import pytest
import torch
from torch.nn import functional

from attacks.poisoning.augment import CropAndFlip
from attacks.poisoning.crafting import CraftSettings
from attacks.poisoning.gradient_matching import match_gradients, matching
from attacks.poisoning.selection import choose, choose_steepest, gradient_norms
from tests.attacks.poisoning.networks import (
    clever,
    digits,
    network,
    noise,
    seeded,
    surrogate,
)

FEW = CraftSettings(epsilon=48 / 255, steps=25, restarts=2, lr=0.05)
"""Digits need more than photographs: a stroke is black on white."""


def flat(model, images, labels):
    """The gradient of the mean cross-entropy as one vector, by autograd in float64."""
    exact = model.double()
    loss = functional.cross_entropy(exact(images.double() / 255 * 2 - 1), labels)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(exact.parameters()))])


def case(poisons=10, targets=2):
    """Fours that are to make sevens look like fours."""
    images, labels = digits()
    return {
        "images": images[labels == 4][:poisons],
        "labels": torch.full((poisons,), 4),
        "targets": images[labels == 7][-targets:],
        "intended": torch.full((targets,), 4),
    }


def crafted(networks, seed=0, settings=FEW, **given):
    data = case()
    return match_gradients(
        [surrogate(n) for n in networks],
        data["images"],
        data["labels"],
        targets=data["targets"],
        intended=data["intended"],
        settings=settings,
        generator=seeded(seed),
        **given,
    )


def cost(seed, images):
    """1 less the cosine of both gradients of a network of this seed."""
    data = case()
    wanted = flat(clever(seed), data["targets"], data["intended"])
    found = flat(clever(seed), images, data["labels"])
    return 1 - float(functional.cosine_similarity(wanted, found, dim=0))


def test_first_cost_matches_the_paper():
    settings = CraftSettings(epsilon=1e-9, steps=1, restarts=1, lr=1e-9)  # the clean images
    assert float(crafted([clever(3)], settings=settings).costs) == pytest.approx(
        cost(3, case()["images"]), abs=1e-5
    )


def test_cost_averages_blocks_and_surrogates():
    settings = CraftSettings(epsilon=1e-9, steps=1, restarts=1, lr=1e-9)
    networks = [clever(3), clever(5)]
    data = case()
    expected = []
    for seed in (3, 5):
        wanted = flat(clever(seed), data["targets"], data["intended"])
        for places in (slice(0, 6), slice(6, 10)):
            found = flat(clever(seed), data["images"][places], data["labels"][places])
            expected.append(1 - float(functional.cosine_similarity(wanted, found, dim=0)))
    assert float(crafted(networks, settings=settings, block=6).costs) == pytest.approx(
        sum(expected) / 4, abs=1e-5
    )


@pytest.mark.parametrize("augment", [None, CropAndFlip(padding=1)])
def test_alignment_cost_falls_within_epsilon(augment):
    found = crafted([clever(3)], augment=augment)
    before, after = found.costs[:, 0], found.costs[:, -3:].mean(1)
    assert (after < before - 0.1).all()
    change = found.images.int() - case()["images"].int()
    assert int(change.abs().max()) == 48
    assert change.flatten(1).any(1).all()


def test_rounding_to_uint8_keeps_the_gain():
    found = crafted([clever(3)])
    assert cost(3, found.images) < float(found.costs[found.kept, 0]) - 0.1
    assert cost(3, found.images) == pytest.approx(float(found.costs.amin()), abs=0.03)


def test_ensemble_aligns_with_each_network():
    clean = [cost(seed, case()["images"]) for seed in (3, 5)]
    both = crafted([clever(3), clever(5)]).images
    single = crafted([clever(3)]).images
    assert all(cost(s, both) < c - 0.1 for s, c in zip((3, 5), clean, strict=True))
    assert cost(5, both) < cost(5, single) - 0.05


def test_same_generator_gives_the_same_result():
    augment = CropAndFlip(padding=1)
    few = CraftSettings(steps=3, restarts=1)
    once, again, other = (
        crafted([clever(3)], seed=s, settings=few, augment=augment) for s in (0, 0, 1)
    )
    assert torch.equal(once.images, again.images)
    assert torch.equal(once.costs, again.costs)
    assert not torch.equal(once.images, other.images)


def test_network_is_unchanged():
    model = network(3, norm=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    crafted([model], settings=CraftSettings(steps=2, restarts=1))
    assert all(torch.equal(before[n], value) for n, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_target_already_reached_has_no_cost():
    """Its gradient is zero, so there is no direction, no slope and no error."""
    model = network(3)
    wanted = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    data = case()
    (term,) = matching(surrogate(model), data["labels"], wanted, augment=None)
    pixels = (data["images"].float() / 255).requires_grad_()
    value = term(pixels, seeded())
    (slope,) = torch.autograd.grad(value, pixels)
    assert value.item() == 1
    assert not slope.any()


def test_poisons_come_from_the_target_class():
    labels = torch.randint(5, (200,), generator=seeded())
    chosen = choose(labels, target_class=2, count=12, generator=seeded(1))
    assert len(set(chosen.tolist())) == 12
    assert (labels[chosen] == 2).all()
    assert not torch.equal(chosen, choose(labels, target_class=2, count=12, generator=seeded(2)))


def test_steepest_images_have_largest_gradients():
    model, images = network(3), noise(30)
    labels = torch.arange(30) % 3
    norms = torch.stack(
        [flat(model, images[i : i + 1], labels[i : i + 1]).norm() for i in range(30)]
    )
    found = surrogate(model.float())
    torch.testing.assert_close(
        gradient_norms(found, images.float() / 255, labels).double(), norms, rtol=1e-4, atol=1e-6
    )
    chosen = choose_steepest(found, images, labels, target_class=1, count=4)
    assert (labels[chosen] == 1).all()
    best = norms[labels == 1].sort(descending=True).values[:4]
    torch.testing.assert_close(norms[chosen], best)


@pytest.mark.parametrize("count", [0, 11])
def test_more_poisons_than_images_are_refused(count):
    labels = torch.arange(30) % 3
    with pytest.raises(ValueError, match="there are only 10 images"):
        choose(labels, target_class=1, count=count, generator=seeded())
    with pytest.raises(ValueError, match="there are only 10 images"):
        choose_steepest(surrogate(network()), noise(30), labels, target_class=1, count=count)
