"""Priors: penalties on candidate images that do not depend on how well they match the payload."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attacks.reconstruction.hooks import (
    LayerInputs,
    features_distance,
    recovered_features,
    running_statistics,
    statistics_distance,
)
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem

SMOOTHING = 1e-8
"""Added under the root of the isotropic total variation, whose slope is infinite at 0."""


@dataclass(frozen=True)
class PriorContext:
    """Everything that a prior may use beside the candidate images.

    Attributes:
        problem: The captured payload, the network and the attacker's knowledge.
        settings: Settings of the attack.
        labels: int64 ``[n]`` or soft ``[n, classes]`` labels of the images; logits ``[n, classes]``
            at the start of the attack if labels are optimised as well.
        inputs: Inputs of BatchNorm layers and of the last linear layer for the candidate images.
        memory: What a prior keeps from one call of a restart to the next; empty at first.
    """

    problem: Problem
    settings: AttackSettings
    labels: Tensor = field(repr=False)
    inputs: LayerInputs = field(repr=False)
    memory: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Reference mean and variance of each BatchNorm layer, by layer name."""
        known = self.problem.knowledge.statistics
        if known is not None:
            return dict(known)
        return running_statistics(self.problem.model, self.problem.buffers)

    @cached_property
    def features(self) -> Tensor:
        """Inputs of the last linear layer as recovered from its gradient, ``[n, features]``."""
        return recovered_features(self.problem.model, self.problem.target, self.labels)


Prior = Callable[[Tensor, PriorContext], Tensor]
"""Penalty of normalised images ``[n, channels, height, width]`` as a differentiable scalar; the
lower, the more plausible the images are."""


def total_variation(images: Tensor, *, isotropic: bool = False, opponents: bool = False) -> Tensor:
    """Total variation: the mean difference between neighbouring pixels.

    The anisotropic form is mean |horizontal difference| + mean |vertical difference|, as in Geiping
    et al. 2020, section 4, and their public code. The isotropic form is the mean length of the
    difference vector (Rudin, Osher and Fatemi 1992).

    Args:
        images: float ``[n, channels, height, width]``.
        isotropic: Use the length of the difference vector.
        opponents: Also penalise the differences between colour channels (double opponents); has
            no effect on images with one channel.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> float(total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])))
        1.0
    """
    if opponents:
        images = with_opponents(images)
    if not isotropic:
        found: Tensor = _Anisotropic.apply(images)
        return found
    horizontal, vertical = _differences(images)
    squares = horizontal[..., :-1, :].square() + vertical[..., :, :-1].square()
    return (squares + SMOOTHING).sqrt().mean()


def with_opponents(images: Tensor) -> Tensor:
    """Images with the differences between colours for further channels, if they have three."""
    if images.shape[1] != 3:
        return images
    return torch.cat([images, images - images.roll(1, dims=1)], dim=1)


def _differences(images: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences between neighbouring pixels."""
    return (
        images[..., :, 1:] - images[..., :, :-1],
        images[..., 1:, :] - images[..., :-1, :],
    )


class _Anisotropic(torch.autograd.Function):
    """Anisotropic total variation, with the bits of autograd's gradient in fewer operations."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        horizontal, vertical = _differences(given[0])
        ctx.save_for_backward(horizontal, vertical)
        return horizontal.abs().mean() + vertical.abs().mean()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        across, down = (one.sign() * (slope / one.numel()) for one in ctx.saved_tensors)
        found = slope.new_zeros((*across.shape[:-1], down.shape[-1]))
        found[..., 1:, :] += down  # in autograd's order
        found[..., :-1, :] -= down
        found[..., :-1] -= across
        found[..., 1:] += across
        return found


def square_norm(images: Tensor) -> Tensor:
    """Mean square of the normalised pixels, as in GradInversion (arXiv 2104.07586)."""
    return images.square().mean()


def total_variation_prior(images: Tensor, context: PriorContext) -> Tensor:
    """Total variation in the form that the settings choose."""
    settings = context.settings
    return total_variation(images, isotropic=settings.tv_isotropic, opponents=settings.tv_opponents)


def norm_prior(images: Tensor, context: PriorContext) -> Tensor:
    """Mean square of the normalised pixels."""
    return square_norm(images)


def statistics_prior(images: Tensor, context: PriorContext) -> Tensor:
    """Squared distance of the batch's BatchNorm statistics from the reference ones."""
    return statistics_distance(context.inputs, context.statistics)


def features_prior(images: Tensor, context: PriorContext) -> Tensor:
    """Squared distance of the last layer's inputs from those recovered from its gradient."""
    return features_distance(context.inputs, context.features)


def check_priors(problem: Problem, settings: AttackSettings) -> None:
    """Raise an error if a prior cannot work on the payload.

    Raises:
        ValueError: If a prior on statistics or features is on, and the payload is not the gradient
            of one batch or is clipped per example.
    """
    if not (settings.statistics or settings.features):
        return
    if problem.payload.kind != "gradient":
        raise ValueError(
            "priors on statistics and features are for the gradient of one batch: weights after "
            "local steps mix the passes of several networks"
        )
    if problem.knowledge.clipping_norm is not None:
        raise ValueError(
            "priors on statistics and features need one pass of the whole batch, but a client that "
            "clips per example makes one for each image"
        )
