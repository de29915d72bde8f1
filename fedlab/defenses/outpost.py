"""OUTPOST: pruned gradients, with noise where the Fisher information is largest.

Wang, Hugo and Li, "More than Enough is Too Much: Adaptive Defenses against Gradient Leakage in
Production Federated Learning" (IEEE/ACM Transactions on Networking, 2024), with the constants of
the authors' configuration for Plato.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.defenses.base import Defense
from fedlab.defenses.changed_gradient import ChangedGradient
from fedlab.defenses.pruning import pruned

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline

LARGEST_RISK = 1.0
"""Upper bound of the risk of a tensor, which is the variance of its weights."""


class Outpost(Defense):
    """Prunes gradients and adds noise where weights vary and the Fisher information is large.

    A local step is changed with a probability that falls from one step to the next. The noise has
    no privacy guarantee, and shows where it is: columns without noise keep the zeros of pruning.
    """

    decay: float = Field(default=0.125, ge=0)
    """Decay b, at least 0, of the probability 1 / (1 + b t) that local step t of a round is
    changed. Steps are counted from 0, so the first one always is."""
    share: float = Field(default=0.8, gt=0, lt=1)
    """Share, in (0, 1), of the entries of each tensor that are set to 0; the smallest ones."""
    noise: float = Field(default=0.8, ge=0)
    """Standard deviation of the noise on a tensor, at least 0, in units of its risk: the variance
    of its weights, at most 1."""
    noisy_share: float = Field(default=0.4, gt=0, le=1)
    """Share, in (0, 1], of the columns of all tensors that get noise: those with the largest
    empirical Fisher information, the mean square of their entries."""

    colour: ClassVar[str] = "#BBCC33"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    changes_gradient: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Change the pipeline's gradient after it is computed."""
        generator, steps = context.stream(self.name), 0

        def change(found: Mapping[str, Tensor], *_: Tensor) -> Mapping[str, Tensor]:
            nonlocal steps
            probability = 1 / (1 + self.decay * steps)
            steps += 1
            if float(torch.rand((), generator=generator)) >= probability:
                return found
            weights = dict(context.model.named_parameters())
            return self._perturbed(found, weights, generator)

        return replace(pipeline, gradient=ChangedGradient(context.model, pipeline.gradient, change))

    def _perturbed(
        self, gradient: Mapping[str, Tensor], weights: Mapping[str, Tensor], generator: Generator
    ) -> dict[str, Tensor]:
        noisy = largest_columns(gradient, share=self.noisy_share)
        found = {}
        for name, tensor in gradient.items():
            risk = float(weights[name].detach().var(correction=0).clamp(max=LARGEST_RISK))
            draws = torch.randn(tensor.shape, generator=generator).to(tensor)
            kept = pruned(tensor, share=self.share)
            found[name] = kept + self.noise * risk * draws * noisy[name]
        return found


def largest_columns(gradient: Mapping[str, Tensor], *, share: float) -> dict[str, Tensor]:
    """Find the columns of all tensors with the largest mean square.

    A column is all entries of a tensor that differ in their first index, such as those of one input
    of a linear layer; a vector, such as a bias, is one column.

    Args:
        gradient: Tensors by parameter name.
        share: Share, in (0, 1], of the columns that are found, at least one.

    Returns:
        True for each such column, bool, shaped as the tensor without its first dimension.

    Example:
        >>> import torch
        >>> largest_columns({"w": torch.tensor([[1.0, 3.0], [1.0, 0.0]])}, share=0.5)
        {'w': tensor([False,  True])}
    """
    squares = {n: t.square().mean(0) if t.ndim else t.square() for n, t in gradient.items()}
    every = torch.cat([square.flatten() for square in squares.values()])
    least = every.topk(max(1, round(share * len(every)))).values.min()
    return {name: square >= least for name, square in squares.items()}
