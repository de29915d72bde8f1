"""Quantisation: every entry of an update is rounded to a few levels of its tensor.

One bit is scaled sign descent (Karimireddy et al., arXiv 1901.09847, example 4); more bits are
evenly spaced levels, rounded to the nearest one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline, Update


class Quantisation(Defense):
    """Rounds every entry of the update to a few levels; no privacy guarantee."""

    bits: int = Field(default=8, ge=1, le=16)
    """Bits of each entry, its sign included; 1 keeps the sign and the tensor's mean magnitude."""

    colour: ClassVar[str] = "#117733"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Round the update after all changes that are made to it already."""

        def release(update: Update) -> Update:
            return {name: quantised(t, bits=self.bits) for name, t in update.items()}

        return pipeline.releasing(release)


def quantised(tensor: Tensor, *, bits: int) -> Tensor:
    """A tensor with every entry rounded to a level.

    With b bits there are 2^(b-1) - 1 levels on each side of 0, up to the largest magnitude m, so an
    entry moves by at most m / (2^b - 2). With one bit, all entries that are not 0 get their mean
    magnitude.

    Args:
        tensor: Of any shape. Its zeros stay zeros: what was pruned is not sent at all.
        bits: At least 1.

    Example:
        >>> import torch
        >>> quantised(torch.tensor([0.1, -1.0, 0.7, 0.0]), bits=2)
        tensor([ 0., -1.,  1.,  0.])
        >>> quantised(torch.tensor([0.5, -1.0, 1.5, 0.0]), bits=1)
        tensor([ 1., -1.,  1.,  0.])
    """
    magnitudes = tensor.abs()
    largest = magnitudes.max()
    if not largest > 0:  # nothing to scale by; what is not finite is for the server to refuse
        return tensor.clone()
    if bits == 1:
        return tensor.sign() * (magnitudes.sum() / magnitudes.count_nonzero())
    levels = (1 << (bits - 1)) - 1
    return (tensor / largest * levels).round() / levels * largest
