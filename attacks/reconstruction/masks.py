"""Masks: choices of the payload entries that an attack compares."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Mask = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Function from the captured payload to 1 for each entry to compare and 0 for the others."""

STANDS_OUT = 3.0
"""Size in standard deviations above which an entry is taken for signal and not for noise."""

NORMAL_MEDIAN = 0.6745
"""Median of the size of a standard normal number."""


def nonzero(target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose the entries that pruning did not set to 0."""
    return {name: (tensor != 0).to(tensor.dtype) for name, tensor in target.items()}


def unsaturated(target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose the entries below the bound of a clipping of single values."""
    bound = torch.stack([tensor.abs().max() for tensor in target.values()]).max()
    return {name: (tensor.abs() < bound).to(tensor.dtype) for name, tensor in target.items()}


def prominent(target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose the entries that OUTPOST kept and that stand out of its noise.

    It adds noise to whole columns of a pruned tensor, in which no zero is left. Most entries of
    these are noise alone, so that their median size tells its deviation. Chosen are those above
    ``STANDS_OUT`` deviations, and in the other columns all but the zeros, which are exact.
    """
    found = {}
    for name, tensor in target.items():
        kept = tensor != 0
        noisy = (kept.all(0, keepdim=True) if tensor.ndim else kept).expand_as(tensor)
        if noisy.any():
            deviation = tensor[noisy].abs().median() / NORMAL_MEDIAN
            kept = kept & (~noisy | (tensor.abs() > STANDS_OUT * deviation))
        found[name] = kept.to(tensor.dtype)
    return found
