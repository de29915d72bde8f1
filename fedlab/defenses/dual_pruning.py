"""Dual pruning: the largest and the smallest entries of each tensor of an update are left out.

Xue et al., "Revisiting Gradient Pruning: A Dual Realization for Defending against Gradient Attacks"
(AAAI 2024, arXiv 2401.16687). The paper's error feedback, which sends what was left out in a later
round, is not part of it: clients keep no state between rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline


class DualPruning(Defense):
    """Sends the entries of middle size of each tensor of the update, without a privacy guarantee.

    An attacker sees which entries are left, and compares these only (arXiv 2401.16687).
    """

    largest: float = Field(default=0.05, ge=0, lt=1)
    """Share, in [0, 1), of the entries of each tensor that are set to 0; the largest ones."""
    smallest: float = Field(default=0.75, ge=0, lt=1)
    """Share, in [0, 1), of the entries of each tensor that are set to 0; the smallest ones."""

    colour: ClassVar[str] = "#EE8866"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    leaves_training: ClassVar[bool] = True

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.largest + self.smallest >= 1:
            raise ValueError(
                f"dual-pruning leaves nothing: largest {self.largest:g} and smallest "
                f"{self.smallest:g} must add up to less than 1"
            )
        return self

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Prune the update after its earlier changes."""
        return pipeline.releasing_each(
            lambda tensor: dual_pruned(tensor, largest=self.largest, smallest=self.smallest)
        )


def dual_pruned(tensor: Tensor, *, largest: float, smallest: float) -> Tensor:
    """Set the largest and the smallest entries of a tensor to 0.

    Args:
        tensor: Tensor of any shape.
        largest: Share, in [0, 1), of the entries that are set to 0 for their size, rounded to a
            whole number of entries.
        smallest: Share, in [0, 1), of the small entries that are set to 0, likewise; at least one
            entry of the tensor stays.

    Returns:
        A tensor of the same shape.

    Example:
        >>> import torch
        >>> dual_pruned(torch.tensor([0.1, -3.0, 0.2, 2.0]), largest=0.25, smallest=0.5)
        tensor([0., 0., 0., 2.])
    """
    flat = tensor.flatten()
    top = min(round(largest * len(flat)), len(flat) - 1)
    bottom = min(round(smallest * len(flat)), len(flat) - 1 - top)
    order = flat.abs().argsort(stable=True)
    gone = order[:bottom], order[len(flat) - top :]
    for places in gone:
        flat = flat.index_fill(0, places, 0.0)
    return flat.view_as(tensor)
