"""Epsilon of a sequence of DP-SGD rounds, by the accountants of Opacus."""

import math
import warnings
from functools import lru_cache
from typing import Literal

from opacus.accountants import PRVAccountant, RDPAccountant

AccountantName = Literal["rdp", "prv", "gdp"]

Step = tuple[float, float, int]
"""Noise multiplier, sample rate, number of steps: one entry of an Opacus history."""


def epsilon(steps: tuple[Step, ...], *, accountant: AccountantName, delta: float) -> float:
    """Epsilon at delta of all steps together, for add-or-remove-one-example neighbours.

    It holds for Poisson sampling at the given rate, or any sampling at rate 1, and only if
    every release on the same images is among the steps.

    Args:
        steps: The releases in order; equal neighbours are merged.
        accountant: ``rdp`` (Mironov et al. 2019) or ``prv`` (Gopi et al. 2021).
        delta: In (0, 1).

    Returns:
        0 for no steps, infinity if any step has no noise.

    Example:
        >>> round(epsilon(((1.0, 0.05, 20),), accountant="rdp", delta=1e-5), 3)
        2.481
    """
    if not steps:
        return 0.0
    if any(noise == 0 for noise, _, _ in steps):
        return math.inf
    return _epsilon(_merged(steps), accountant, delta)


def _merged(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    merged: list[Step] = []
    for noise, rate, count in steps:
        if merged and merged[-1][:2] == (noise, rate):
            count += merged.pop()[2]
        merged.append((noise, rate, count))
    return tuple(merged)


@lru_cache(maxsize=4096)  # many clients share a history, and PRV takes up to a second
def _epsilon(steps: tuple[Step, ...], accountant: str, delta: float) -> float:
    counter = RDPAccountant() if accountant == "rdp" else PRVAccountant()
    counter.history = list(steps)
    with warnings.catch_warnings():
        # An order at the end of the list is still a valid, if looser, bound.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        # At rate 1 PRV takes log(1 - q) = -inf, which its comparisons are right about.
        warnings.filterwarnings("ignore", message="divide by zero encountered in log")
        return float(counter.get_epsilon(delta=delta))
