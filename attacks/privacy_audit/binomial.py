"""Binomial tails and the exact bounds on a rate that follow from them.

Clopper and Pearson, "The use of confidence or fiducial limits" (Biometrika 1934).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

HALVINGS = 50
"""Of an interval of length 1 or less: beyond the resolution of float64 differences that matter."""


def probabilities(trials: int, rate: float) -> Tensor:
    """Chance of each number of successes in independent trials.

    Args:
        trials: At least 0.
        rate: Chance of one success, in [0, 1].

    Returns:
        float64 ``[trials + 1]``.

    Example:
        >>> [round(float(p), 3) for p in probabilities(2, 0.5)]
        [0.25, 0.5, 0.25]
    """
    count = torch.arange(trials + 1, dtype=torch.float64)
    ways = math.lgamma(trials + 1) - torch.lgamma(count + 1) - torch.lgamma(trials - count + 1)
    hit = torch.tensor(rate, dtype=torch.float64)
    return (ways + torch.xlogy(count, hit) + torch.xlogy(trials - count, 1 - hit)).exp()


def at_least(successes: int, *, trials: int, rate: float) -> float:
    """Chance of so many successes or more."""
    return min(1.0, float(probabilities(trials, rate)[successes:].sum()))


def lowest_rate(successes: int, *, trials: int, confidence: float) -> float:
    """Clopper-Pearson's one-sided lower bound on a rate.

    Args:
        successes: From 0 to ``trials``.
        trials: At least 1.
        confidence: With which the true rate is at least the result, in (0, 1).
    """
    if not successes:
        return 0.0
    doubt = 1 - confidence
    return last_below(lambda rate: at_least(successes, trials=trials, rate=rate) < doubt, 0.0, 1.0)


def highest_rate(successes: int, *, trials: int, confidence: float) -> float:
    """Clopper-Pearson's one-sided upper bound on a rate; arguments as of ``lowest_rate``."""
    return 1 - lowest_rate(trials - successes, trials=trials, confidence=confidence)


def last_below(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition stops to hold, by bisection, from below: it holds at ``low``."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
