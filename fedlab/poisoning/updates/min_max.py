"""Min-max: the largest move that the distances between updates do not show (NDSS 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlab.poisoning.updates.colluding import SpreadAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Collusion


class MinMax(SpreadAttack):
    """Sends an update as far from honest ones as the two furthest of them are apart."""

    def combine(self, known: Tensor, collusion: Collusion) -> Tensor:
        """Return the moved mean."""
        from attacks.model_poisoning.within_spread import min_max  # imports torch

        return min_max(known, direction=self.direction)
