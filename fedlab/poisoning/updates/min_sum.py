"""Min-sum: the largest move that the distances between updates do not show (NDSS 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlab.poisoning.updates.colluding import SpreadAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Collusion


class MinSum(SpreadAttack):
    """Sends an update with squared distances to honest ones that sum to no more than theirs do."""

    def combine(self, known: Tensor, collusion: Collusion) -> Tensor:
        """Return the moved mean."""
        from attacks.model_poisoning.within_spread import min_sum  # imports torch

        return min_sum(known, direction=self.direction)
