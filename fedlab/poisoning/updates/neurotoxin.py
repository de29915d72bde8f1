"""Neurotoxin: a backdoor in coordinates that honest clients rarely change (arXiv 2206.10341)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.poisoning.updates.base import UpdateAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import UpdateContext


class Neurotoxin(UpdateAttack):
    """Sends the update without the coordinates that the global model changed most last.

    With a backdoor as the client's ``data`` it is meant to make the backdoor last longer. The paper
    shows that for networks that are trained already; early in training it plants less of it. The
    client knows the change of the global model since the last round in which it took part; in its
    first round it knows none, and sends its update whole. The authors project every local step,
    this projects the update that the steps add up to, so that later steps do not make up for it.
    """

    observes_global: ClassVar[bool] = True

    share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the coordinates that are left out (top-k), above 0 and below 1; 0.05 as in the
    paper."""
    factor: float = Field(default=1.0, gt=0)
    """Factor by which the projected update is multiplied, above 0."""

    def tamper(self, change: Tensor, context: UpdateContext) -> Tensor:
        """Return the projected change."""
        from attacks.model_poisoning.neurotoxin import off_heavy_coordinates  # imports torch

        if context.observed is None:
            return self.factor * change
        return self.factor * off_heavy_coordinates(change, context.observed, share=self.share)
