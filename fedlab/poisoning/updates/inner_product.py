"""Inner product manipulation: the reversed mean of honest updates (arXiv 1903.03936)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.poisoning.updates.colluding import ColludingAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Collusion


class InnerProduct(ColludingAttack):
    """Sends the reversed mean of honest updates, small enough to stay unnoticed (IPM)."""

    epsilon: float = Field(default=0.5, gt=0)
    """Length over that of the mean, above 0; above 1 it is easier to see, and reverses the
    average."""

    def combine(self, known: Tensor, collusion: Collusion) -> Tensor:
        """Return the reversed mean."""
        from attacks.model_poisoning.inner_product import inner_product  # imports torch

        return inner_product(known, epsilon=self.epsilon)
