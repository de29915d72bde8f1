"""Boosting, or model replacement: the update many times over (Bagdasaryan et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlab.poisoning.updates.base import UpdateAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import UpdateContext


class Scaling(UpdateAttack):
    """Multiplies the update by a factor."""

    factor: float = 10.0
    """Factor by which the update is multiplied."""

    def tamper(self, change: Tensor, context: UpdateContext) -> Tensor:
        """Return the scaled change."""
        from attacks.model_poisoning.scaling import scale  # imports torch

        return scale(change, factor=self.factor)
