"""Which images are mixed with each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fedlab.core.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

BLOCK = 1024
"""Rows drawn at once: a few operations on many rows cost hardly more than on few."""


def distinct(count: int, size: int, *, out_of: int, generator: Generator) -> Tensor:
    """Sets of different numbers, every set of this size equally likely.

    Floyd's algorithm (Bentley and Floyd, "A sample of brilliance", CACM 1987) on all sets at once:
    its cost does not depend on how many numbers there are to choose from.

    Args:
        count: Number of sets.
        size: Numbers in a set, at most ``out_of``.
        out_of: The numbers are ``0 .. out_of - 1``.
        generator: CPU generator.

    Returns:
        int64 ``[count, size]``. The order within a set is not random.
    """
    chosen = torch.empty(size, count, dtype=torch.int64)
    for place, last in enumerate(range(out_of - size, out_of)):
        drawn = torch.randint(last + 1, (count,), generator=generator)
        taken = (chosen[:place] == drawn).any(0)
        chosen[place] = torch.where(taken, last, drawn)
    return chosen.T


def skipping(others: Tensor, members: Tensor) -> Tensor:
    """Numbers drawn out of all but one, as places among all of them.

    Args:
        others: int64 ``[b, size]`` from ``0 .. n - 2``.
        members: int64 ``[b]``, the one of ``0 .. n - 1`` that each row leaves out.

    Returns:
        int64 ``[b, size]`` on the device of ``members``.
    """
    others = others.to(members.device)
    return others + (others >= members.unsqueeze(1))


class Ahead:
    """Independent random rows, drawn in blocks and handed out as they are needed.

    Args:
        draw: Draws so many rows anew.
    """

    def __init__(self, draw: Callable[[int], Tensor]) -> None:
        self._draw = draw
        self._left = draw(0)

    def __call__(self, count: int) -> Tensor:
        """The next rows."""
        if count > len(self._left):
            self._left = torch.cat([self._left, self._draw(max(BLOCK, count))])
        rows, self._left = self._left[:count], self._left[count:]
        return rows
