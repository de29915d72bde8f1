"""Ceilings on PSNR for a prior of images, against every guess that can be tried."""

import numpy as np
import pytest
import torch

from fedlab.privacy.ceiling import ceilings
from fedlab.privacy.image_prior import (
    HIGHEST,
    chance_of_psnr,
    levels_of,
    mean_psnr_ceiling,
)
from fedlab.privacy.release import PrivacyRelease

IMAGES = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def release(noise):
    return (PrivacyRelease(1, 0, "dp-sgd", noise_multiplier=noise, sample_rate=1.0, steps=1),)


def psnr(one, other):
    return -10 * (one - other).square().flatten(-3).mean(-1).clamp(min=1e-12).log10()


@pytest.mark.parametrize("level", [6.0, 10.0, 12.0, 14.0, 16.0, 20.0])
def test_no_guess_is_closer_to_more_images(level):
    draws = torch.Generator().manual_seed(1)
    means = torch.stack([IMAGES[torch.randperm(30, generator=draws)[:k]].mean(0) for k in (2, 5)])
    guesses = torch.cat(
        [IMAGES, means, IMAGES.mean(0, keepdim=True), torch.full((1, 1, 4, 4), 0.5)]
    )
    reached = [(psnr(guess, IMAGES) >= level).double().mean() for guess in guesses]
    assert max(reached) <= chance_of_psnr(levels_of(IMAGES), level)


def test_levels_of_two_images():
    two = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.1)])
    # They are 20 dB apart, and 6.02 dB closer to their mean.
    assert levels_of(two) == pytest.approx([HIGHEST, 26.0206], abs=1e-3)
    assert chance_of_psnr(levels_of(two), 26.0) == 1.0
    assert chance_of_psnr(levels_of(two), 26.1) == 0.5


def test_duplicates_count_as_found_together():
    assert levels_of(torch.zeros(3, 1, 2, 2)).tolist() == [HIGHEST] * 3


def test_mean_ceiling_equals_the_integral():
    levels = levels_of(IMAGES)
    grid = np.linspace(0.0, HIGHEST, 60_001)[:-1] + 0.0005
    chances = np.array([chance_of_psnr(levels, p) for p in grid])
    integral = ceilings(release(1.0), chances).mean() * HIGHEST
    assert mean_psnr_ceiling(release(1.0), levels) == pytest.approx(integral, abs=2e-3)


def test_mean_ceiling_covers_the_best_attacker():
    """The attacker of a two-point prior that sees a Gaussian, and returns the likelier image."""
    two = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.1)])
    draws = torch.Generator().manual_seed(2)
    truth = torch.randint(2, (20_000,), generator=draws)
    seen = truth + torch.randn(20_000, generator=draws)
    guess = (seen > 0.5).long()
    measured = torch.where(guess == truth, HIGHEST, 20.0).mean()
    assert measured <= mean_psnr_ceiling(release(1.0), levels_of(two))


def test_mean_ceiling_falls_with_noise_and_grows_with_guesses():
    levels = levels_of(IMAGES)
    found = [mean_psnr_ceiling(release(noise), levels) for noise in (0.0, 0.5, 2.0, 50.0)]
    assert found[0] == pytest.approx(HIGHEST)
    assert found == sorted(found, reverse=True)
    assert mean_psnr_ceiling(release(2.0), levels, guesses=4) > found[2]
    assert mean_psnr_ceiling(release(2.0), levels, guesses=30) == pytest.approx(HIGHEST)


def test_empty_prior_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        levels_of(torch.zeros(0, 1, 2, 2))
