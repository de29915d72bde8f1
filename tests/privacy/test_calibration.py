"""Calibrated noise costs at most the target, and slightly less noise costs more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.utils import get_noise_multiplier

from fedlab.privacy.accountant import epsilon
from fedlab.privacy.calibration import noise_multiplier_for


@settings(max_examples=10, deadline=None)
@given(
    target=st.floats(0.3, 30),
    planned=st.lists(
        st.tuples(st.sampled_from([0.01, 0.1, 1.0]), st.integers(1, 200)),
        min_size=1,
        max_size=3,
    ),
)
def test_calibrated_noise_is_the_smallest(target, planned):
    noise = noise_multiplier_for(
        target, tuple((1.0, *each) for each in planned), accountant="rdp", delta=1e-5
    )

    def cost(multiplier):
        steps = tuple((multiplier, rate, count) for rate, count in planned)
        return epsilon(steps, accountant="rdp", delta=1e-5)

    assert cost(noise) <= target
    # The margin covers four digits and the tolerance of the search.
    assert cost(noise * 0.998) > target


def test_calibrated_noise_equals_opacus():
    theirs = get_noise_multiplier(
        target_epsilon=3.0, target_delta=1e-5, sample_rate=0.1, steps=200, epsilon_tolerance=1e-4
    )
    ours = noise_multiplier_for(3.0, ((1.0, 0.1, 200),), accountant="rdp", delta=1e-5)
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("accountant", ["rdp", "prv", "gdp"])
def test_every_accountant_can_calibrate(accountant):
    noise = noise_multiplier_for(2.0, ((1.0, 0.1, 100),), accountant=accountant, delta=1e-5)
    cost = epsilon(((noise, 0.1, 100),), accountant=accountant, delta=1e-5)
    assert cost == pytest.approx(2.0, rel=3e-3)
    assert cost <= 2.0


def test_fixed_steps_count_towards_the_target():
    settled = ((1.0, 0.1, 20),)
    alone = epsilon(settled, accountant="rdp", delta=1e-5)
    arguments = {"accountant": "rdp", "delta": 1e-5}
    noise = noise_multiplier_for(alone + 1, ((1.0, 0.1, 20),), fixed=settled, **arguments)
    assert epsilon((*settled, (noise, 0.1, 20)), **arguments) == pytest.approx(alone + 1, rel=3e-3)
    with pytest.raises(ValueError, match="no noise brings epsilon down to 1"):
        noise_multiplier_for(1.0, ((1.0, 0.1, 20),), fixed=settled, **arguments)


def test_generous_target_gives_the_least_noise():
    assert noise_multiplier_for(1e6, ((1.0, 0.1, 1),), accountant="rdp", delta=1e-5) < 0.1


def test_steps_that_count_half_get_twice_the_noise():
    arguments = {"accountant": "rdp", "delta": 1e-5}
    half, whole = (noise_multiplier_for(2.0, ((u, 1.0, 4),), **arguments) for u in (0.5, 1.0))
    assert half == pytest.approx(2 * whole, rel=1e-3)
