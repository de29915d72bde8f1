"""A random update, the control that every other update attack has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.poisoning.updates.base import UpdateAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import UpdateContext


class Gaussian(UpdateAttack):
    """Sends a Gaussian random update."""

    factor: float = Field(default=1.0, gt=0)
    """L2 norm of the random update over the norm of the client's own update, above 0."""

    def tamper(self, change: Tensor, context: UpdateContext) -> Tensor:
        """Return a random change."""
        from attacks.model_poisoning.gaussian import gaussian  # imports torch

        return self.factor * gaussian(change, generator=context.generator)
