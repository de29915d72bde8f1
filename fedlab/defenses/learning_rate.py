"""Learning-rate perturbation: a client trains with a learning rate that the server does not know.

Wan et al., "Enhancing Privacy Preservation in Federated Learning via Learning Rate Perturbation"
(ICCV 2023).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.defenses.base import Defense
from fedlab.defenses.changed_gradient import ChangedGradient

if TYPE_CHECKING:
    from fedlab.defenses.pipeline import ClientContext, Pipeline


class LearningRatePerturbation(Defense):
    """Multiplies the learning rate of each round by a secret random factor (ICCV 2023).

    The factor changes the length of an update of one step and not its direction, so an attack that
    compares directions is not affected.
    """

    spread: float = Field(default=0.5, gt=0, lt=1)
    """Largest relative change of the learning rate, in (0, 1): the factor is uniform between one
    minus and one plus the spread."""

    colour: ClassVar[str] = "#77AADD"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    changes_gradient: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Multiply every gradient of the round by the same factor.

        This equals SGD, with or without momentum, at another learning rate; weight decay and the
        proximal term keep the announced one.
        """
        draw = float(torch.rand((), generator=context.stream(self.name)))
        factor = 1 + self.spread * (2 * draw - 1)
        gradient = ChangedGradient(
            context.model,
            pipeline.gradient,
            lambda found, *_: {name: factor * tensor for name, tensor in found.items()},
        )
        return replace(pipeline, gradient=gradient)
