"""Pruning that shows in an update, repeated on simulated updates."""

from collections.abc import Mapping

import torch
from torch import Tensor

VISIBLE = 0.5
"""Share of the entries that move in a simulated update which must be exactly zero in the captured
one: dead units of a network make a smaller part of it zero."""

SMALL, FEW = 0.1, 0.01
"""Entries below the first, as a share of their tensor's median, are among those that remain after
pruning at random, and hardly after pruning by size. If fewer than the second share of the entries
is so small, the largest ones were kept. Gaussian entries that are kept at random have 5 % of them,
and others more."""


def visibly_pruned(captured: Mapping[str, Tensor], simulated: Mapping[str, Tensor]) -> bool:
    """True if far more of an update is exactly zero than of a simulated one.

    Args:
        captured: Change of each parameter by name.
        simulated: Change in a simulated update.
    """
    expected = _zeros(simulated)
    return _zeros(captured) >= expected + VISIBLE * (1 - expected)


def pruned_alike(change: Mapping[str, Tensor], captured: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Set as many entries of each tensor to zero as in a captured update.

    The largest entries remain if those of the captured update look like the largest of their
    tensors; otherwise those at the same places, as under a random mask.

    Args:
        change: Change of each parameter in a simulated update, by name.
        captured: Change of each parameter in the captured update.
    """
    by_size = _by_size(captured)
    return {
        name: _largest(tensor, count=int((captured[name] != 0).sum()))
        if by_size
        else tensor * (captured[name] != 0)
        for name, tensor in change.items()
    }


def _largest(tensor: Tensor, *, count: int) -> Tensor:
    flat = tensor.flatten()
    kept = flat.abs().argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(flat).index_copy(0, kept, flat[kept]).view_as(tensor)


def _by_size(captured: Mapping[str, Tensor]) -> bool:
    """Whether the remaining entries are the largest ones, and not any."""
    sizes = [tensor[tensor != 0].abs() for tensor in captured.values()]
    small = sum(int((each < SMALL * each.median()).sum()) for each in sizes if len(each))
    return small < FEW * sum(map(len, sizes))


def _zeros(change: Mapping[str, Tensor]) -> float:
    """Share of the entries that are exactly zero."""
    entries = sum(tensor.numel() for tensor in change.values())
    return sum(int((tensor == 0).sum()) for tensor in change.values()) / entries
