"""Quantisation: every entry of an update is rounded to a few levels of its tensor.

One bit gives scaled sign descent (Karimireddy et al., arXiv 1901.09847, example 4). More bits give
evenly spaced levels, and entries are rounded to the nearest one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline


class Quantisation(Defense):
    """Rounds every entry of the update to a few levels, without a privacy guarantee."""

    bits: int = Field(default=8, ge=1, le=16)
    """Bits per entry with its sign, 1 to 16; 1 keeps the sign and the tensor's mean magnitude."""

    colour: ClassVar[str] = "#117733"
    strengths: ClassVar[tuple[str, ...]] = ("bits",)
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    leaves_training: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Round the update after its earlier changes."""
        return pipeline.releasing_each(lambda tensor: quantised(tensor, bits=self.bits))


def quantised(tensor: Tensor, *, bits: int) -> Tensor:
    """Round every entry of a tensor to a level.

    With b bits there are 2^(b-1) - 1 levels on each side of 0, up to the largest magnitude m, so an
    entry changes by at most m / (2^b - 2). With one bit, all entries other than 0 get their mean
    magnitude.

    Args:
        tensor: Tensor of any shape. Zeros stay zero, so that pruned entries stay pruned.
        bits: Number of bits per entry with its sign, at least 1.

    Returns:
        A tensor of the same shape.

    Example:
        >>> import torch
        >>> quantised(torch.tensor([0.1, -1.0, 0.7, 0.0]), bits=2)
        tensor([ 0., -1.,  1.,  0.])
        >>> quantised(torch.tensor([0.5, -1.0, 1.5, 0.0]), bits=1)
        tensor([ 1., -1.,  1.,  0.])
    """
    magnitudes = tensor.abs()
    largest = magnitudes.max()
    if not largest > 0:  # no scale; the server refuses updates that are not finite
        return tensor.clone()
    if bits == 1:
        return tensor.sign() * (magnitudes.sum() / magnitudes.count_nonzero())
    levels = (1 << (bits - 1)) - 1
    return (tensor / largest * levels).round() / levels * largest
