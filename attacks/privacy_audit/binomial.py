"""Binomial tail probabilities and exact confidence bounds on a rate.

Clopper and Pearson, "The use of confidence or fiducial limits" (Biometrika 1934).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

HALVINGS = 50
"""Number of bisections of an interval of length 1; more do not change the result."""


def probabilities(trials: int, rate: float) -> Tensor:
    """Return the probability of each number of successes in independent trials.

    Args:
        trials: Number of trials, at least 0.
        rate: Probability of a success, in [0, 1].

    Returns:
        Probabilities of 0 to ``trials`` successes, float64 ``[trials + 1]``.

    Example:
        >>> [round(float(p), 3) for p in probabilities(2, 0.5)]
        [0.25, 0.5, 0.25]
    """
    count = torch.arange(trials + 1, dtype=torch.float64)
    ways = math.lgamma(trials + 1) - torch.lgamma(count + 1) - torch.lgamma(trials - count + 1)
    hit = torch.tensor(rate, dtype=torch.float64)
    return (ways + torch.xlogy(count, hit) + torch.xlogy(trials - count, 1 - hit)).exp()


def at_least(successes: int, *, trials: int, rate: float) -> float:
    """Return the probability of at least that many successes."""
    return min(1.0, float(probabilities(trials, rate)[successes:].sum()))


def lowest_rate(successes: int, *, trials: int, confidence: float) -> float:
    """Return the one-sided lower Clopper-Pearson bound on a rate.

    Args:
        successes: Number of successes, from 0 to ``trials``.
        trials: Number of trials, at least 1.
        confidence: Probability that the true rate is at least the bound, in (0, 1).
    """
    if not successes:
        return 0.0
    doubt = 1 - confidence
    return last_below(lambda rate: at_least(successes, trials=trials, rate=rate) < doubt, 0.0, 1.0)


def highest_rate(successes: int, *, trials: int, confidence: float) -> float:
    """Return the one-sided upper Clopper-Pearson bound; arguments are those of ``lowest_rate``."""
    return 1 - lowest_rate(trials - successes, trials=trials, confidence=confidence)


def last_below(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the largest value for which a condition holds, by bisection from ``low``."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
