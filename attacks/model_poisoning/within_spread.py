"""Min-max and min-sum: the largest move that the distances between updates do not show.

Shejwalkar and Houmansadr, "Manipulating the Byzantine" (NDSS 2021), section IV-B: the honest mean
is moved by ``lambda`` along a direction, as far as its distances to the honest changes stay within
those that the honest changes have to each other.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Direction = Literal["mean", "sign", "deviation"]

START = 10.0
"""First lambda of the search, as in the authors' code."""

HALVINGS = 60
"""Number of bisections; more do not change a double. The authors stop at a width of 1e-5."""


def min_max(changes: Tensor, *, direction: Direction = "deviation") -> Tensor:
    """Move the honest mean so far that no distance exceeds the largest between honest changes.

    ``max_i ||x - c_i||^2 <= max_ij ||c_i - c_j||^2`` with ``x = mu - lambda p`` and the largest
    such lambda.

    Args:
        changes: Honest changes that the colluding clients know, float ``[m, d]``, at least two.
        direction: Direction p: ``mean``, the unit vector of the mean; ``sign``, the sign of the
            mean in every coordinate; ``deviation``, the standard deviation of every coordinate.

    Returns:
        The change that every colluding client sends, float ``[d]``.

    Raises:
        ValueError: If fewer than two changes are known, or there is no such direction.
    """
    bound = _squared_distances(changes).max()
    return _pushed(changes, direction, lambda distances: bool(distances.max() <= bound))


def min_sum(changes: Tensor, *, direction: Direction = "deviation") -> Tensor:
    """Move the honest mean so far that its summed distances do not exceed those of honest changes.

    ``sum_i ||x - c_i||^2 <= min_i sum_j ||c_i - c_j||^2``. Arguments, result and errors are those
    of ``min_max``; the result is closer to the mean.
    """
    bound = _squared_distances(changes).sum(1).min()
    return _pushed(changes, direction, lambda distances: bool(distances.sum() <= bound))


def _pushed(changes: Tensor, direction: Direction, unseen: Callable[[Tensor], bool]) -> Tensor:
    """Move the mean as far as its squared distances ``[m]`` to the changes are accepted.

    The distances are convex in lambda and accepted at 0, so bisection finds the only limit.
    """
    known = changes.double()
    mean = known.mean(0)
    push = _direction(known, direction)
    # ||mu - lambda p - c_i||^2 as a polynomial, so that a trial costs m numbers and not m * d.
    apart = mean - known
    constant, linear, square = apart.square().sum(1), apart @ push, push @ push
    if not square > 0:
        return changes.mean(0)

    def holds(factor: float) -> bool:
        return unseen(constant - 2 * factor * linear + factor * factor * square)

    low, high = 0.0, START
    while holds(high):
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (mean - low * push).to(changes.dtype)


def _direction(changes: Tensor, direction: Direction) -> Tensor:
    mean = changes.mean(0)
    match direction:
        case "mean":
            norm = mean.norm()
            return mean / norm if norm > 0 else mean
        case "sign":
            return mean.sign()
        case "deviation":
            return changes.std(0, correction=1)
    raise ValueError(f'there is no direction "{direction}": use mean, sign or deviation')


def _squared_distances(changes: Tensor) -> Tensor:
    """Squared distances ``[m, m]``, computed from differences, which is exact for near changes."""
    if len(changes) < 2:
        raise ValueError("the spread of changes needs at least two of them")
    known = changes.double()
    return torch.stack([(known - one).square().sum(1) for one in known])
