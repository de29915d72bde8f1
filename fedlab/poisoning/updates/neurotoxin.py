"""Neurotoxin: a backdoor in coordinates that honest clients rarely change (arXiv 2206.10341)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.poisoning.updates.base import UpdateAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import UpdateContext


class Neurotoxin(UpdateAttack):
    """Trains without the coordinates that the global model changed most last.

    With a backdoor as the client's ``data`` it is meant to make the backdoor last longer. The paper
    shows that for networks that are trained already. The gradient of every local step is projected.
    The client knows the change of the global model since the last round in which it took part; in
    its first round it knows none, and trains on all coordinates.
    """

    observes_global: ClassVar[bool] = True

    share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the coordinates that are left out (top-k), above 0 and below 1; 0.05 as in the
    paper."""
    factor: float = Field(default=1.0, gt=0)
    """Factor by which the projected update is multiplied, above 0."""

    def trains(self, observed: Tensor | None) -> Tensor | None:
        """Select the coordinates off those that changed most."""
        from attacks.model_poisoning.neurotoxin import light_coordinates  # imports torch

        return None if observed is None else light_coordinates(observed, share=self.share)

    def tamper(self, change: Tensor, context: UpdateContext) -> Tensor:
        """Return the change, without what weight decay and defenses moved elsewhere."""
        kept = self.trains(context.observed)
        return self.factor * (change if kept is None else change * kept)
