"""Magnitude pruning: only the largest entries of each tensor of an update are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline


class Pruning(Defense):
    """Sends only the largest entries of each tensor of the update, without a privacy guarantee."""

    share: float = Field(default=0.9, gt=0, lt=1)
    """Share, in (0, 1), of the entries of each tensor that are set to 0; the smallest ones."""

    colour: ClassVar[str] = "#CC6677"
    strengths: ClassVar[tuple[str, ...]] = ("share",)
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    leaves_training: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Prune the update after its earlier changes."""
        return pipeline.releasing_each(lambda tensor: pruned(tensor, share=self.share))


def pruned(tensor: Tensor, *, share: float) -> Tensor:
    """Set the smallest entries of a tensor to 0.

    Args:
        tensor: Tensor of any shape.
        share: Share, in (0, 1), of the entries that are set to 0, rounded to a whole number of
            entries; at least one entry stays.

    Returns:
        A tensor of the same shape. Among entries of equal magnitude the last ones stay.

    Example:
        >>> import torch
        >>> pruned(torch.tensor([0.1, -3.0, 0.2, 2.0]), share=0.5)
        tensor([ 0., -3.,  0.,  2.])
    """
    count = min(round(share * tensor.numel()), tensor.numel() - 1)
    flat = tensor.flatten()
    smallest = flat.abs().argsort(stable=True)[:count]
    return flat.index_fill(0, smallest, 0.0).view_as(tensor)
