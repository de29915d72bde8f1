"""Tests of the optimisation loop of crafted poisons."""

from itertools import pairwise

import pytest
import torch

from attacks.poisoning.crafting import (
    CraftSettings,
    bounded,
    craft,
    random_perturbation,
    rounded,
    start,
)
from tests.attacks.poisoning.networks import noise, seeded

EPSILON = 16 / 255


def distance_to(goal):
    """The mean squared distance to pixels that are out of reach or not."""
    return lambda pixels, generator: (pixels - goal).square().mean()


def found(images, cost, seed=0, **given):
    settings = CraftSettings(**{"steps": 30, "restarts": 2} | given)
    return craft(images, cost, settings=settings, generator=seeded(seed))


@pytest.mark.parametrize("rule", ["adam", "pgd"])
@pytest.mark.parametrize("epsilon", [EPSILON, 7.5 / 255, 0.5])
def test_change_reaches_but_never_exceeds_epsilon(rule, epsilon):
    """Towards white every pixel goes up by epsilon, in whole levels, or to 255."""
    images = noise(3)
    crafted = found(images, distance_to(1.0), rule=rule, epsilon=epsilon, lr=0.1, steps=60)
    assert crafted.images.dtype == torch.uint8
    expected = (images.int() + int(epsilon * 255 + 1e-6)).clamp(max=255)
    assert torch.equal(crafted.images.int(), expected)
    assert torch.equal(images, noise(3))


@pytest.mark.parametrize("rule", ["adam", "pgd"])
def test_costs_fall_and_precede_each_step(rule):
    images = noise(4)
    crafted = found(images, distance_to(0.5), rule=rule, restarts=3)
    assert crafted.costs.shape == (3, 30)
    assert (crafted.costs[:, -1] < crafted.costs[:, 0]).all()
    clean = images.float() / 255
    first = start(clean, epsilon=EPSILON, generator=seeded())
    assert float(crafted.costs[0, 0]) == pytest.approx(
        float((clean + first - 0.5).square().mean()), rel=1e-5
    )


def test_step_size_follows_its_schedule():
    """Plain signed steps: every pixel moves by the step size; a slope up makes it go down."""
    seen = []

    def cost(pixels, generator):
        seen.append(pixels.detach().clone())
        return pixels.sum()

    grey = torch.full((1, 1, 8, 8), 128, dtype=torch.uint8)
    found(grey, cost, rule="pgd", epsilon=0.4, lr=1e-3, steps=40, restarts=1)
    moved = torch.stack([after - before for before, after in pairwise(seen)])
    free = (torch.stack(seen) > 128 / 255 - 0.39).all(0) & (seen[0] < 128 / 255 + 0.39)
    sizes = [1e-3] * 14 + [1e-4] * 10 + [1e-5] * 11 + [1e-6] * 4
    for step, size in enumerate(sizes):
        torch.testing.assert_close(
            -moved[step][free], torch.full((int(free.sum()),), size), atol=1e-7, rtol=0.02
        )


def test_restart_with_lowest_cost_is_kept():
    """One valley is deeper: the mean of the pixels starts above or below, and stays there."""
    images = noise(1)[:, :, :1, :1]

    def cost(pixels, generator):
        x = (pixels - images.float() / 255).sum() / EPSILON
        return (x.square() - 0.25).square() - 0.1 * x  # minima near -0.5 and, deeper, 0.5

    crafted = found(images, cost, restarts=8, lr=1e-3, steps=60)
    final = crafted.costs[:, -1]
    assert final.max() - final.min() > 0.05
    assert crafted.kept == int(final.argmin())
    assert crafted.images.int() > images.int()


def test_restart_with_nan_cost_is_never_kept():
    calls = []

    def cost(pixels, generator):
        calls.append(None)
        bad = float("nan") if len(calls) <= 10 else 1.0
        return bad * (pixels - 1.0).square().mean()

    images = noise(2)
    crafted = found(images, cost, steps=10, lr=0.1)
    assert crafted.kept == 1
    assert float((crafted.images.int() - images.int()).double().mean()) > 10


def test_mean_of_several_costs_falls():
    images = noise(2)
    parts = [distance_to(0.2), distance_to(0.8)]

    def mean(pixels, generator):
        return sum(part(pixels, generator) for part in parts) / 2

    several, one = found(images, parts), found(images, mean)
    torch.testing.assert_close(several.costs, one.costs)
    assert float((several.images.int() - one.images.int()).abs().max()) <= 1


def test_same_generator_gives_the_same_result():
    images = noise(2)
    once, again, other = (found(images, distance_to(0.5), seed=s, steps=3) for s in (0, 0, 1))
    assert torch.equal(once.images, again.images)
    assert torch.equal(once.costs, again.costs)
    assert not torch.equal(once.images, other.images)


def test_costs_are_renewed_with_current_poisons():
    images, given = noise(2), []

    def renew(poisons):
        given.append(poisons)
        return [distance_to(0.0)]

    settings = CraftSettings(steps=80, restarts=2, lr=0.1)
    crafted = craft(
        images, distance_to(1.0), settings=settings, generator=seeded(), renew=renew, renewals=3
    )
    assert len(given) == 2 * 3
    assert float((given[0].int() - images.int()).double().mean()) > 10  # towards white at first
    assert float((crafted.images.int() - images.int()).double().mean()) < -10
    jumps = (crafted.costs[0, 1:] - crafted.costs[0, :-1]).abs()
    assert int(jumps.argmax()) + 1 == 20


@pytest.mark.parametrize("epsilon", [EPSILON, 8 / 255, 0.03])
def test_control_moves_every_pixel_by_epsilon(epsilon):
    images = noise(50)
    control = random_perturbation(images, epsilon=epsilon, generator=seeded())
    change, levels = control.int() - images.int(), int(epsilon * 255 + 1e-6)
    inside = (images >= levels) & (images <= 255 - levels)
    assert (change[inside].abs() == levels).all()
    assert int(change.abs().max()) == levels
    assert abs(float(change[inside].sign().double().mean())) < 0.06
    assert control.dtype == torch.uint8


def test_bounds_and_rounding_respect_epsilon():
    clean = torch.tensor([[0.0, 1.0, 0.5, 0.5]])
    change = bounded(torch.tensor([[-1.0, 1.0, 1.0, -0.01]]), clean, 0.1)
    torch.testing.assert_close(change, torch.tensor([[0.0, 0.0, 0.1, -0.01]]))
    images = torch.tensor([0, 255, 100, 100], dtype=torch.uint8)
    moved = rounded(images, torch.tensor([-1.0, 1.0, 1.0, -0.6 / 255]), epsilon=0.1)
    assert moved.tolist() == [0, 255, 125, 99]


@pytest.mark.parametrize(
    "wrong",
    [{"epsilon": 0.0}, {"epsilon": 16.0}, {"steps": 0}, {"restarts": 0}, {"lr": 0.0}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="not"):
        CraftSettings(**wrong)
