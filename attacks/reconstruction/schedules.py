"""Schedules of the step size of an attack."""

import math
from collections.abc import Callable

DECAYS = (2.667, 1.6, 1.142)
"""The step size falls to a tenth at I/2.667, I/1.6 and I/1.142, as the authors' code writes 3/8,
5/8 and 7/8 (Geiping et al. 2020)."""

Schedule = Callable[[float, int], float]
"""Function from the iteration, counted from 0, and their number to a factor in [0, 1]."""


def step(iteration: float, iterations: int) -> float:
    """Fall to a tenth at each milestone."""
    return float(0.1 ** sum(iteration >= at > 0 for at in milestones(iterations)))


def cosine(iteration: float, iterations: int) -> float:
    """Half a cosine wave from 1 to 0 (Loshchilov and Hutter, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * iteration / iterations))


def linear(iteration: float, iterations: int) -> float:
    """A straight line from 1 to 0."""
    return 1 - iteration / iterations


def constant(iteration: float, iterations: int) -> float:
    """Always 1."""
    return 1.0


def milestones(iterations: int) -> list[int]:
    """Iterations after which the ``step`` schedule falls to a tenth.

    Example:
        >>> milestones(24_000)
        [8998, 14999, 21015]
    """
    return [int(iterations // part) for part in DECAYS]
