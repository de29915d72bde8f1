"""Ceilings against published formulas, simulation, and what certifies nothing."""

import math

import numpy as np
import pytest

from fedlab.privacy.accountant import epsilon
from fedlab.privacy.ceiling import EPSILONS, ceiling, ceilings
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.privacy_loss import delta, privacy_loss
from fedlab.privacy.release import PrivacyRelease

CHANCES = [0.1, 0.01, 0.001]

VECTORS = [
    ((1.0, 1.0, 1), (0.3891, 0.0924, 0.0183)),
    ((2.0, 1.0, 10), (0.6178, 0.2281, 0.0656)),
    ((1.0, 0.05, 20), (0.1658, 0.0249, 0.0037)),
    ((1.0, 0.05, 200), (0.3495, 0.0830, 0.0173)),
]
"""Noise multiplier, sample rate and steps, and ceilings by the privacy loss distribution."""


def sgd(noise, rate=1.0, steps=1, round=1, **more):
    return PrivacyRelease(
        round,
        round - 1,
        "dp-sgd",
        clipping_norm=1.0,
        noise_multiplier=noise,
        sample_rate=rate,
        steps=steps,
        **more,
    )


def clip_noise(noise, round=1):
    return PrivacyRelease(
        round, round - 1, "clip-noise", noise_multiplier=noise, sample_rate=1.0, steps=1
    )


@pytest.mark.parametrize(("step", "expected"), VECTORS)
def test_ceiling_equals_reference_values(step, expected):
    # The grid of epsilons costs less than 1e-4, and the values have four digits.
    assert ceilings((sgd(*step),), CHANCES) == pytest.approx(expected, abs=1.6e-4)


@pytest.mark.parametrize(
    "step", [(0.6, 0.02, 50), (1.0, 0.05, 200), (3.0, 0.5, 10), (0.3, 0.001, 5)]
)
def test_the_minimum_is_that_of_the_whole_curve(step):
    loss = privacy_loss((step,), scale=epsilon((step,), accountant="rdp", delta=1e-5))
    curve = np.array([delta(loss, each) for each in EPSILONS])
    _, rate, steps = step
    sampled = 1 - (1 - rate) ** steps
    for chance in (0.5, 0.1, 0.01, 0.001):
        whole = (np.exp(EPSILONS) * chance + np.minimum(curve, sampled)).min()
        assert ceiling((sgd(*step),), chance) == pytest.approx(min(whole, 1.0), rel=1e-12)


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.05, 20), (1.0, 0.05, 200)])
def test_ceiling_equals_hayes_simulation(noise, rate, steps):
    """The estimator of Hayes et al. (arXiv 2302.07225) for batches by Poisson sampling."""
    tries, chance = 100_000, 0.1
    draw = np.random.default_rng(0)
    logs = np.zeros(tries)
    for _ in range(steps):
        x = noise * draw.standard_normal(tries)
        logs += np.log(1 - rate + rate * np.exp((2 * x - 1) / (2 * noise**2)))
    top = np.sort(np.exp(logs))[::-1][: math.ceil(chance * tries)]
    found = ceiling((sgd(noise, rate, steps),), chance)
    assert found == pytest.approx(top.sum() / tries, rel=0.03)


def test_sampled_curve_at_rate_one_equals_the_exact_form():
    exact = ceilings((sgd(1.0),), CHANCES)
    assert ceilings((sgd(1.0, 0.999999),), CHANCES) == pytest.approx(exact, abs=2e-4)


def test_releases_of_several_rounds_compose():
    parts = (sgd(1.0, 0.05, 20), sgd(1.0, 0.05, 180, round=2))
    assert ceiling(parts, 0.1) == ceiling((sgd(1.0, 0.05, 200),), 0.1)
    mixed = (sgd(1.0, 0.05, 20), sgd(0.8, 0.05, 20, round=2))
    assert ceiling(mixed, 0.1) > ceiling((sgd(1.0, 0.05, 40),), 0.1)


def test_batches_of_fixed_size_count_half_the_noise():
    one = sgd(1.0, fixed_batch=True)
    assert ceiling((one,), 0.1) == pytest.approx(0.764, abs=5e-4)
    four = tuple(sgd(1.0, round=r, fixed_batch=True) for r in (1, 2, 3, 4))
    assert ceiling(four, 0.1) == pytest.approx(0.997, abs=5e-4)


def test_ceiling_of_clip_noise_covers_each_image():
    """Two clipped updates differ by twice the norm, so noise 2 counts as noise 1."""
    assert ceiling((clip_noise(2.0),), 0.1) == pytest.approx(0.3891, abs=1e-4)


def test_best_of_two_protections_of_a_round_counts():
    both = (sgd(1.0), clip_noise(8.0))
    assert ceiling(both, 0.1) == ceiling((clip_noise(8.0),), 0.1) < ceiling((sgd(1.0),), 0.1)


@pytest.mark.parametrize(
    "history",
    [
        (PrivacyRelease(1, 0, "none"),),
        (sgd(1.0), PrivacyRelease(2, 1, "none")),
        (sgd(0.0),),
        (sgd(8.0), clip_noise(8.0, round=2)),
        (PrivacyRelease(1, 0, "dp-instahide", steps=1, epsilon=0.01),),
        (
            PrivacyRelease(
                1, 0, "mine:Mine", unit="example", adjacency="add-or-remove-one", epsilon=0.01
            ),
        ),
    ],
    ids=["open", "once open", "no noise", "two mechanisms", "private labels", "claimed"],
)
def test_nothing_is_certified(history):
    assert ceiling(history, 0.1) == 1.0


@pytest.mark.parametrize(("epsilon", "expected"), [(0.5, 0.1649), (49_000.0, 1.0), (None, 1.0)])
def test_instahide_counts_its_pure_epsilon(epsilon, expected):
    mixing = PrivacyRelease(1, 0, "dp-instahide", steps=100, epsilon=epsilon)
    assert ceiling((mixing,), 0.1, labels_public=True) == pytest.approx(expected, abs=1e-4)


def test_ceiling_of_nothing_sent_is_chance():
    assert ceiling((), 0.25) == 0.25
    assert ceiling((sgd(1.0, 0.5, 0),), 0.25) == 0.25


def test_tiny_noise_is_bounded_by_the_sample_rate():
    """An image that no batch contains leaves no trace, whatever the noise."""
    assert ceiling((sgd(0.01, 0.05, 2),), 0.1) == pytest.approx(0.1 + 1 - 0.95**2)


def test_gdp_is_refused_for_ceilings():
    with pytest.raises(ValueError, match="gdp accountant is no upper bound"):
        ceiling((sgd(1.0),), 0.1, accountant="gdp")


@pytest.mark.parametrize("chance", [0.0, 1.5, math.nan])
def test_impossible_chance_is_refused(chance):
    with pytest.raises(ValueError, match="a chance must be"):
        ceiling((sgd(1.0),), chance)


def test_ledger_has_a_ceiling_for_each_participation():
    history = (sgd(1.0), sgd(1.0, round=2), PrivacyRelease(3, 2, "none"))
    rows = Ledger({0: history}).rows()
    assert [row.ceiling_10 for row in rows] == pytest.approx([0.3891, 0.5528, 1.0], abs=1e-4)
    assert [row.ceiling_100 for row in rows] == pytest.approx([0.0924, 0.1807, 1.0], abs=2e-4)
    assert Ledger({0: history[:1]}).ceiling(0, 1000) == pytest.approx(0.0183, abs=1e-4)


def test_ledger_by_gdp_certifies_nothing():
    ledger = Ledger({0: (sgd(1.0),)}, accountant="gdp")
    assert ledger.rows()[0].ceiling_10 is None
    assert ledger.ceiling(0, 10) is None
