"""Magnitude pruning: of each tensor of an update only the largest entries are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline, Update


class Pruning(Defense):
    """Sends only the largest entries of each tensor of the update; no privacy guarantee."""

    share: float = Field(default=0.9, gt=0, lt=1)
    """Share of the entries of a tensor that are set to 0: the smallest ones, but never all."""

    colour: ClassVar[str] = "#CC6677"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Prune the update after all changes that are made to it already."""

        def release(update: Update) -> Update:
            return {name: pruned(t, share=self.share) for name, t in update.items()}

        return pipeline.releasing(release)


def pruned(tensor: Tensor, *, share: float) -> Tensor:
    """A tensor with its smallest entries set to 0.

    Args:
        tensor: Of any shape.
        share: Of the entries that go, rounded to whole ones; at least one stays.

    Returns:
        The same shape. Of entries that are equally large the last ones stay.

    Example:
        >>> import torch
        >>> pruned(torch.tensor([0.1, -3.0, 0.2, 2.0]), share=0.5)
        tensor([ 0., -3.,  0.,  2.])
    """
    count = min(round(share * tensor.numel()), tensor.numel() - 1)
    flat = tensor.flatten()
    smallest = flat.abs().argsort(stable=True)[:count]
    return flat.index_fill(0, smallest, 0.0).view_as(tensor)
