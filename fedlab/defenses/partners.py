"""Random choice of the images that are mixed with each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fedlab.core.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

BLOCK = 1024
"""Smallest number of rows drawn at once; many rows cost hardly more than few."""


def distinct(count: int, size: int, *, out_of: int, generator: Generator) -> Tensor:
    """Draw sets of distinct numbers, every set of the size equally likely.

    It runs Floyd's algorithm (Bentley and Floyd, "A sample of brilliance", CACM 1987) on all sets
    at once; the cost does not depend on ``out_of``.

    Args:
        count: Number of sets.
        size: Number of elements in a set, from 0 to ``out_of``.
        out_of: Number of values to choose from; they are ``0 .. out_of - 1``.
        generator: CPU generator of the random draws.

    Returns:
        The sets, int64 ``[count, size]``. The order within a set is not random.
    """
    chosen = torch.empty(size, count, dtype=torch.int64)
    for place, last in enumerate(range(out_of - size, out_of)):
        drawn = torch.randint(last + 1, (count,), generator=generator)
        taken = (chosen[:place] == drawn).any(0)
        chosen[place] = torch.where(taken, last, drawn)
    return chosen.T


def skipping(others: Tensor, members: Tensor) -> Tensor:
    """Map numbers from ``0 .. n - 2`` to ``0 .. n - 1`` without one number per row.

    Args:
        others: Numbers from ``0 .. n - 2``, int64 ``[b, size]``.
        members: Number from ``0 .. n - 1`` that each row leaves out, int64 ``[b]``.

    Returns:
        The mapped numbers, int64 ``[b, size]``, on the device of ``members``.
    """
    others = others.to(members.device)
    return others + (others >= members.unsqueeze(1))


class Ahead:
    """A buffer of independent random rows, which are drawn in blocks.

    Args:
        draw: Function that draws the given number of rows.
    """

    def __init__(self, draw: Callable[[int], Tensor]) -> None:
        self._draw = draw
        self._left = draw(0)

    def __call__(self, count: int) -> Tensor:
        """Return the next ``count`` rows."""
        if count > len(self._left):
            self._left = torch.cat([self._left, self._draw(max(BLOCK, count))])
        rows, self._left = self._left[:count], self._left[count:]
        return rows
