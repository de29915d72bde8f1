"""Search for the noise multiplier at which planned steps cost a given epsilon."""

import math

import scipy

from fedlab.privacy.accountant import epsilon
from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.privacy_loss import Step

LEAST, MOST = 1 / 16, 2.0**14
"""Range of noise multipliers searched; below it, epsilon of a single step is in the hundreds."""

DIGITS = 4
"""Significant digits of the result; rounding gives clients with equal tasks equal noise."""


def noise_multiplier_for(
    target: float,
    planned: tuple[Step, ...],
    *,
    fixed: tuple[Step, ...] = (),
    accountant: AccountantName,
    delta: float,
) -> float:
    """Find the smallest noise multiplier at which steps cost no more than a target.

    Args:
        target: Epsilon of all steps together, above 0.
        planned: Steps that get the noise, stated for a noise multiplier of 1.
        fixed: Steps whose noise is already set; they count towards the target.
        accountant: Accountant that computes epsilon.
        delta: Delta, in (0, 1), at which epsilon is computed.

    Returns:
        Noise multiplier, rounded up to ``DIGITS`` significant digits.

    Raises:
        ValueError: If no noise reaches the target, or the accountant cannot count such steps.

    Example:
        >>> noise_multiplier_for(2.0, ((1.0, 0.05, 20),), accountant="rdp", delta=1e-5)
        1.1
    """

    def cost(noise: float) -> float:
        steps = tuple((noise * unit, rate, count) for unit, rate, count in planned)
        return epsilon((*fixed, *steps), accountant=accountant, delta=delta)

    high = 1.0
    while cost(high) > target:
        high *= 2
        if high > MOST:
            raise ValueError(f"no noise brings epsilon down to {target:g}")
    while high > LEAST and cost(high / 2) <= target:
        high /= 2
    if high > LEAST:
        # A root finder needs finite values, but epsilon may be infinite at the lower end.
        high = scipy.optimize.brentq(
            lambda z: min(cost(z), 1e9) - target, high / 2, high, rtol=1e-6
        )
    found = _rounded_up(high)
    return found if cost(found) <= target else _rounded_up(found * (1 + 0.1**DIGITS))


def _rounded_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    # The small offset keeps rounding errors from raising a value that is already rounded.
    return round(math.ceil(value / unit - 1e-6) * unit, 12)
