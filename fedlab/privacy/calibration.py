"""The noise that makes planned steps cost a given epsilon."""

import math

from scipy import optimize

from fedlab.privacy.accountant import Step, epsilon
from fedlab.privacy.accountant_name import AccountantName

LEAST, MOST = 1 / 16, 2.0**14
"""Noise multipliers that are looked at: below, epsilon is in the hundreds for a single step."""

DIGITS = 4
"""Significant digits of the result, so that clients with the same task get the same noise."""


def noise_multiplier_for(
    target: float,
    planned: tuple[Step, ...],
    *,
    fixed: tuple[Step, ...] = (),
    accountant: AccountantName,
    delta: float,
) -> float:
    """The least noise multiplier with which steps cost no more than a target.

    Args:
        target: Epsilon of all steps together, above 0.
        planned: Steps that get the noise, as they would count at a noise multiplier of 1.
        fixed: Steps whose noise is settled.
        accountant: By which epsilon is counted.
        delta: At which.

    Returns:
        To ``DIGITS`` digits, rounded up.

    Raises:
        ValueError: If no noise is enough, or the accountant cannot count such steps.

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
        # Epsilon may be infinite at the lower end, which no root finder takes.
        high = optimize.brentq(lambda z: min(cost(z), 1e9) - target, high / 2, high, rtol=1e-6)
    found = _rounded_up(high)
    return found if cost(found) <= target else _rounded_up(found * (1 + 0.1**DIGITS))


def _rounded_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    # A hair less, or what is a round number already would go up by rounding errors.
    return round(math.ceil(value / unit - 1e-6) * unit, 12)
