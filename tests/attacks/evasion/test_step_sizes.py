"""Tests of the step sizes of PGD and WITCHcraft."""

import pytest
import torch

from attacks.evasion.step_sizes import Uniform, fixed

SHAPE = (3000, 1, 4, 4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_fixed_size_draws_nothing():
    generator = seeded()
    before = generator.get_state()
    sizes = fixed(0.1, SHAPE, generator=generator)
    assert sizes.flatten().tolist() == [0.1]
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("each", ["image", "pixel"])
@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_uniform_sizes_have_the_step_as_mean(each, spread):
    sizes = Uniform(spread, each)(0.1, SHAPE, generator=seeded())
    assert sizes.shape == ((3000, 1, 1, 1) if each == "image" else SHAPE)
    assert float(sizes.min()) >= 0.1 * (1 - spread)
    assert float(sizes.max()) <= 0.1 * (1 + spread)
    places = (sizes.flatten() / 0.1 - (1 - spread)) / (2 * spread)
    ordered = places.sort().values
    # Kolmogorov's distance from the uniform distribution: above 1.95 / sqrt(n) once in a thousand.
    steps = torch.arange(1, len(ordered) + 1, dtype=torch.float64) / len(ordered)
    assert float((ordered - steps).abs().max()) < 1.95 / len(ordered) ** 0.5


def test_sizes_differ_in_every_iteration():
    generator = seeded()
    one, other = (Uniform()(0.1, SHAPE, generator=generator) for _ in range(2))
    correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.1


@pytest.mark.parametrize("spread", [-0.1, 1.1])
def test_spread_above_one_is_refused(spread):
    with pytest.raises(ValueError, match="spread"):
        Uniform(spread)
