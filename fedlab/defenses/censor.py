"""CENSOR: instead of a gradient, a random direction that is orthogonal to it.

Zhang et al., "CENSOR: Defense Against Gradient Inversion via Orthogonal Subspace Bayesian Sampling"
(NDSS 2025). The public code subtracts ``(r . g / ||g||) g`` from a random direction r, which is
orthogonal to the gradient g only where ``||g|| = 1``; here it is ``(r . g / ||g||^2) g``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense
from fedlab.defenses.changed_gradient import ChangedGradient

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline


class Censor(Defense):
    """Sends the best of some random directions that are orthogonal to the gradient (NDSS 2025).

    Each tensor keeps its norm. A step along an orthogonal direction does not change the loss to
    first order, so the choice rests on its curvature, and accuracy has to be measured.
    """

    trials: Count = Field(default=10, ge=1)
    """Number of directions that are drawn for each local step, at least 1."""
    probe: float = Field(default=1e-4, gt=0)
    """Learning rate, above 0, of the step after which the losses of the directions are compared."""

    colour: ClassVar[str] = "#EE3377"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    changes_gradient: ClassVar[bool] = True
    selects_by_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Replace the pipeline's gradient after it is computed."""
        generator = context.stream(self.name)

        def change(
            gradient: Mapping[str, Tensor], images: Tensor, labels: Tensor
        ) -> Mapping[str, Tensor]:
            draws = (orthogonal(gradient, generator=generator) for _ in range(self.trials))
            if not len(images):
                return next(draws)
            return min(draws, key=lambda each: self._loss(each, context, images, labels))

        return replace(pipeline, gradient=ChangedGradient(context.model, pipeline.gradient, change))

    def _loss(
        self,
        direction: Mapping[str, Tensor],
        context: ClientContext,
        images: Tensor,
        labels: Tensor,
    ) -> float:
        """Loss of the batch after a short step against a direction, in evaluation mode."""
        from fedlab.core.modes import evaluation

        weights = {
            name: p - self.probe * direction[name] if name in direction else p
            for name, p in context.model.named_parameters()
        }
        with evaluation(context.model):
            outputs = torch.func.functional_call(context.model, weights, (images,))
            return float(torch.nn.functional.cross_entropy(outputs, labels))


def orthogonal(gradient: Mapping[str, Tensor], *, generator: Generator) -> dict[str, Tensor]:
    """Draw a random direction that is orthogonal to each tensor of a gradient, and as long.

    Args:
        gradient: Tensors by parameter name.
        generator: CPU generator of the random draws.

    Returns:
        Tensors of the same shapes. A tensor that is 0 stays 0, and so does one of a single entry,
        to which nothing but 0 is orthogonal.
    """
    found = {}
    for name, tensor in gradient.items():
        draw = torch.randn(tensor.shape, generator=generator).to(tensor)
        square = tensor.square().sum()
        if tensor.numel() == 1 or not square > 0:
            found[name] = torch.zeros_like(tensor)
            continue
        for _ in range(2):  # once more, because the first projection leaves a rounding error
            draw = draw - (draw * tensor).sum() / square * tensor
        found[name] = draw * (square.sqrt() / draw.norm())
    return found
