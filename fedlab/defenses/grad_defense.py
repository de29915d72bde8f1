"""GradDefense: noise on some slices of an update that are equally sensitive to the images.

Wang et al., "Protect Privacy from Gradient Leakage Attack in Federated Learning" (INFOCOM 2022) and
the authors' code. The server's compensation, which denoises the aggregate, is not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from fedlab.defenses.pipeline import ClientContext, Pipeline, Update
    from fedlab.privacy.release import History


ROUNDING = 1e-5
"""Sensitivities up to this are rounding errors of float32: the entries of a softmax classifier's
gradient sum to zero, so its true sensitivity is 0."""


class GradDefense(Defense):
    """Adds noise to a random half of ten equally sensitive slices of the update (INFOCOM 2022).

    Sensitivity is measured on public images and weights, so it tells nothing of the client. The
    noise has no privacy guarantee.
    """

    slices: Count = Field(default=10, ge=1)
    """Number of slices into which the update is cut, at least 1."""
    perturbed: Count = Field(default=5, ge=1)
    """Number of slices that get noise, from 1 to ``slices``; they are drawn in every round."""
    scale: float = Field(default=5e-4, ge=0)
    """Standard deviation of the noise on each entry of these slices, at least 0, in the units of
    the update: a gradient, or the change of the weights."""
    root_images: Count = Field(default=16, ge=1)
    """Number of public images on which the sensitivity is measured, at least 1."""

    colour: ClassVar[str] = "#AAAA00"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    leaves_training: ClassVar[bool] = True

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Self:
        if self.perturbed > self.slices:
            raise ValueError(
                f"grad-defense cannot perturb {self.perturbed} of {self.slices} slices: set "
                "perturbed to slices at most"
            )
        return self

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Add noise to the update after its earlier changes."""
        sensitivity = self._sensitivity(context)
        generator = context.stream(self.name)

        def release(update: Update) -> Update:
            return self._perturbed(update, sensitivity, generator)

        return pipeline.releasing(release)

    def facts(self, history: History) -> dict[str, Any]:
        """Return the root mean square of the noise over slices; which have it is secret."""
        return {"update_noise": self.scale * math.sqrt(self.perturbed / self.slices)}

    def _sensitivity(self, context: ClientContext) -> dict[str, float]:
        public = context.public
        if public is None or not len(public):
            raise ValueError("grad-defense measures sensitivity on public images: there are none")
        pixels = public.images[: self.root_images].float().div(255)
        images = context.network_input(pixels)
        return sensitivities(context.model, images, public.labels[: self.root_images])

    def _perturbed(
        self, update: Update, sensitivity: Mapping[str, float], generator: Generator
    ) -> dict[str, Tensor]:
        sizes = {name: tensor.numel() for name, tensor in update.items()}
        slices = equal_slices(sizes, sensitivity, count=self.slices)
        chosen = torch.randperm(self.slices, generator=generator)[: self.perturbed]
        found = {}
        for name, tensor in update.items():
            noise = torch.randn(tensor.shape, generator=generator).to(tensor)
            noisy = torch.isin(slices[name], chosen).view(tensor.shape).to(tensor)
            found[name] = tensor + self.scale * noise * noisy
        return found


def sensitivities(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure how much the gradient of each parameter depends on the images.

    It is the mean over images x_i of the norm of d (sum of the entries of g) / d x_i, for the
    gradient g of the parameter.

    Args:
        model: Network with parameters that are trained; it is run in evaluation mode, and its modes
            are restored.
        images: Normalised images, float32 ``[b, channels, height, width]``.
        labels: int64 ``[b]``.

    Returns:
        Numbers by parameter name: 0, or more than ``ROUNDING``.
    """
    from attacks.gradients import batch_gradient
    from fedlab.core.modes import kept_modes

    inputs = images.detach().requires_grad_()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    found = {}
    with kept_modes(model):
        gradient = batch_gradient(
            model.eval(), parameters, dict(model.named_buffers()), inputs, labels, create_graph=True
        )
        for name, tensor in gradient.items():
            slope = None
            if tensor.requires_grad:
                (slope,) = torch.autograd.grad(
                    tensor.sum(), inputs, retain_graph=True, allow_unused=True
                )
            size = 0.0 if slope is None else float(slope.flatten(1).norm(dim=1).mean())
            found[name] = size if size > ROUNDING else 0.0
    return found


def equal_slices(
    sizes: Mapping[str, int], sensitivity: Mapping[str, float], *, count: int
) -> dict[str, Tensor]:
    """Cut an update into slices of about equal sensitivity.

    The entries of all tensors, one after another, are cut between units of as many entries as the
    greatest common divisor of the tensors' sizes. The sensitivity of a tensor is spread evenly over
    its units.

    Args:
        sizes: Number of entries of each tensor by parameter name.
        sensitivity: Sensitivity of each tensor, at least 0; if all are 0, sizes count instead.
        count: Number of slices, at least 1.

    Returns:
        Number of the slice of each entry, int64 ``[entries]``, counted from 0.

    Example:
        >>> equal_slices({"a": 2, "b": 4}, {"a": 3.0, "b": 3.0}, count=2)
        {'a': tensor([0, 0]), 'b': tensor([1, 1, 1, 1])}
    """
    unit = math.gcd(*sizes.values())
    weights = sensitivity if any(sensitivity.values()) else sizes
    units = {name: size // unit for name, size in sizes.items()}
    each = torch.cat(
        [
            torch.full((number,), weights[name] / max(1, number), dtype=torch.float64)
            for name, number in units.items()
        ]
    )
    # The middle of a unit decides, so that rounding at a border does not.
    middles = (each.cumsum(0) - each / 2) / each.sum()
    numbers = (middles * count).long().clamp(0, count - 1).repeat_interleave(unit)
    parts = torch.split(numbers, list(sizes.values()))
    return dict(zip(sizes, parts, strict=True))
