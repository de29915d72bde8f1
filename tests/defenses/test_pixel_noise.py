"""Pixel noise has its distribution, is finite, independent by pixel and set by the seed."""

import math

import numpy as np
import pytest
import torch

from fedlab.defenses.pixel_noise import add_noise, laplace
from tests.defenses.contexts import seeded


@pytest.mark.parametrize(
    ("kind", "deviation", "kurtosis"), [("laplace", math.sqrt(2), 6.0), ("gaussian", 1.0, 3.0)]
)
def test_pixel_noise_has_its_moments(kind, deviation, kurtosis):
    scale = 0.02  # too small for clipping to [0, 1]
    noise = add_noise(torch.full((400_000,), 0.5), kind, scale=scale, generator=seeded()) - 0.5
    standard = noise / (scale * deviation)
    assert float(standard.std()) == pytest.approx(1, abs=0.01)
    assert abs(float(standard.mean())) < 0.01
    assert float((standard**4).mean()) == pytest.approx(kurtosis, rel=0.05)


def test_laplace_noise_follows_its_distribution():
    """Kolmogorov-Smirnov: the largest distance times the root of n rarely exceeds 2."""
    count = 1_000_001
    noise = laplace((count,), generator=seeded()).double().sort().values
    expected = torch.where(noise < 0, noise.exp() / 2, 1 - (-noise).exp() / 2)
    steps = torch.arange(count, dtype=torch.float64) / count
    assert float((steps - expected).abs().max()) * math.sqrt(count) < 2
    assert len(noise.unique()) > 0.95 * count
    assert bool(noise.isfinite().all())
    assert float(noise.abs().max()) > 10  # it is not limited to a few scales


def test_laplace_grid_ends_are_finite(monkeypatch):
    """All bits equal give the largest and the smallest magnitudes, with both signs."""

    class Ends:
        def __init__(self, seed):
            pass

        def random_raw(self, count):
            words = [0, 2**64 - 1, 2**31 + 2**63, (2**31 - 1) * (2**32 + 1)]
            return np.array(words[:count], dtype=np.uint64)

    monkeypatch.setattr("numpy.random.SFC64", Ends)
    noise = laplace((8,), generator=seeded())
    assert bool(noise.isfinite().all())
    assert float(noise.abs().max()) == pytest.approx(32 * math.log(2))
    assert noise[:2].tolist() == (-noise[2:4]).tolist()


def test_noise_of_two_pixels_is_uncorrelated():
    noise = add_noise(torch.full((2, 100_000), 0.5), "laplace", scale=0.02, generator=seeded())
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 5 / math.sqrt(100_000)


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
def test_same_seed_gives_the_same_noise(kind):
    pixels = torch.full((50,), 0.5)
    one, same, other = (
        add_noise(pixels, kind, scale=0.1, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    again = seeded(1)
    assert not torch.equal(laplace((50,), generator=again), laplace((50,), generator=again))


def test_noisy_pixels_stay_within_zero_and_one():
    pixels = torch.rand(1000, generator=seeded())
    before = pixels.clone()
    noisy = add_noise(pixels, "laplace", scale=1.0, generator=seeded())
    assert float(noisy.min()) == 0
    assert float(noisy.max()) == 1
    assert torch.equal(pixels, before)
