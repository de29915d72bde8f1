"""Sign flipping: the opposite of the client's update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.poisoning.updates.base import UpdateAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import UpdateContext


class SignFlip(UpdateAttack):
    """Reverses the update and multiplies it by a factor."""

    factor: float = Field(default=1.0, gt=0)
    """Factor by which the reversed update is multiplied, above 0."""

    def tamper(self, change: Tensor, context: UpdateContext) -> Tensor:
        """Return the reversed change."""
        from attacks.model_poisoning.sign_flip import sign_flip  # imports torch

        return sign_flip(change, factor=self.factor)
