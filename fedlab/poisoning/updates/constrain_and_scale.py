"""Constrain-and-scale: train close to the global weights, then scale (Bagdasaryan et al.)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.core.settings import Count
from fedlab.poisoning.updates.scaling import Scaling

if TYPE_CHECKING:
    from attacks.knowledge import LocalSGD


class ConstrainAndScale(Scaling):
    """Trains longer but close to the global weights, and multiplies the update by a factor.

    Its loss is ``alpha`` times the loss on the images plus ``1 - alpha`` times the squared distance
    from the global weights.
    """

    alpha: float = Field(default=0.9, gt=0, le=1)
    """Weight of the loss on the images, in (0, 1]."""
    epochs: Count | None = Field(default=None, ge=1)
    """Epochs of local training, at least 1; by default as many as the server asks for."""
    lr: float | None = Field(default=None, gt=0)
    """Learning rate of local training, above 0; by default the one that the server asks for."""

    def adjust_training(self, training: LocalSGD) -> LocalSGD:
        """Return SGD on the loss of this attack.

        The gradient of ``a L + (1 - a) ||w - G||^2`` is
        ``a (grad L + (2 (1 - a) / a) (w - G))``: a smaller learning rate and a proximal term.
        """
        lr = training.lr if self.lr is None else self.lr
        return replace(
            training,
            lr=self.alpha * lr,
            proximal_mu=training.proximal_mu + 2 * (1 - self.alpha) / self.alpha,
            epochs=self.epochs or training.epochs,
        )
