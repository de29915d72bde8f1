"""The private gradient of DP-SGD: clipped per-example gradients plus noise, by Opacus."""

import math
import secrets
from typing import Literal

import torch
from opacus.optimizers import (
    DPOptimizer,
    DPOptimizerFastGradientClipping,
    DPPerLayerOptimizer,
)
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from fedlab.defenses.adaptive_clipping import Quantile, QuantileOptimizer
from fedlab.models.per_example import Mode, PerExampleGradients, ignoring_full_backward_hooks

Clipping = Literal["flat", "per-layer"] | Quantile
"""Clipping by one norm, by an equal norm for each parameter tensor, or by an adaptive norm."""


class PrivateGradient:
    """The noisy mean of per-example gradients, each clipped to a norm (Opacus).

    A gradient that is not finite counts as zero, so that one image cannot make the sum NaN.

    The sum of the clipped gradients is divided by the *expected* batch size, as the analysis of
    Poisson sampling requires, so an empty batch is a release of pure noise.

    Args:
        model: Network to be trained; Opacus' hooks are attached until ``close`` is called.
        clipping_norm: Largest L2 norm of one example's gradient after clipping, above 0; with
            adaptive clipping, its initial value.
        noise_multiplier: Standard deviation of the noise divided by the clipping norm, at least 0.
            With adaptive clipping it also covers the released count of unclipped gradients.
        expected_batch_size: Expected number of images in a batch.
        generator: Generator of the noise, on the device of the network.
        clipping: Kind of clipping: ``flat``, ``per-layer``, or the settings of adaptive clipping.
        mode: Method that computes per-example gradients; ``ghost`` needs flat clipping.
        at_once: Largest number of per-example gradients in memory; larger batches are processed in
            parts. ``None`` for whole batches.
        secure: True to draw the noise so that its floating-point digits do not reveal what it was
            added to (arXiv 2107.10138).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        clipping_norm: float,
        noise_multiplier: float,
        expected_batch_size: int,
        generator: torch.Generator,
        clipping: Clipping = "flat",
        mode: Mode = "hooks",
        at_once: int | None = None,
        secure: bool = False,
    ) -> None:
        self._examples = PerExampleGradients(model, mode, clipping_norm=clipping_norm)
        self._ghost = mode == "ghost"
        self._at_once = at_once
        self._optimizer = _optimizer(
            model,
            clipping,
            ghost=self._ghost,
            clipping_norm=clipping_norm,
            noise_multiplier=noise_multiplier,
            expected_batch_size=expected_batch_size,
            generator=generator,
            secure=secure,
        )

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Overwrite ``.grad`` of every parameter with the private gradient of a batch.

        Args:
            images: Normalised images, float32 ``[b, channels, height, width]``; may be empty.
            labels: int64 ``[b]`` or float32 ``[b, classes]``.
        """
        size = self._at_once or max(1, len(images))
        parts = list(zip(torch.split(images, size), torch.split(labels, size), strict=True))
        for place, (some, their_labels) in enumerate(parts, start=1):
            # After a skipped step this keeps the sum of the earlier parts.
            self._optimizer.zero_grad(set_to_none=True)
            if len(some):
                self._backward(some, their_labels)
            else:
                self._empty_batch()
            self._optimizer.signal_skip_step(place < len(parts))
            self._optimizer.pre_step()

    @property
    def clipping_norm(self) -> float:
        """Clipping norm of the next batch."""
        norm: float = self._optimizer.max_grad_norm
        return norm

    def close(self) -> None:
        """Remove Opacus' hooks and attributes from the network."""
        self._optimizer.zero_grad(set_to_none=True)
        self._examples.close()

    def _backward(self, images: Tensor, labels: Tensor) -> None:
        if self._ghost:
            with ignoring_full_backward_hooks():
                losses = self._examples.losses(images, labels)
                DPTensorFastGradientClipping(
                    self._examples.module, self._optimizer, losses, "sum"
                ).backward()
        else:
            self._examples.compute(images, labels)
        self._clip_overflow(images, labels)

    def _clip_overflow(self, images: Tensor, labels: Tensor) -> None:
        """Clip the gradient of each example whose norm is not finite to zero.

        Clipping by a factor keeps infinity and NaN, one of which makes the whole sum NaN, and no
        noise covers that. The example is accounted like any other.
        """
        if self._ghost:
            finite = self._examples.norms.isfinite()
            if not finite.all():  # the sum is already formed: compute it again without them
                self._optimizer.zero_grad(set_to_none=True)
                if finite.any():
                    self._backward(images[finite], labels[finite])
                else:
                    self._empty_batch()
            return
        parameters = self._optimizer.params
        norms = [p.grad_sample.flatten(1).norm(dim=1) for p in parameters]
        finite = torch.stack(norms).isfinite().all(0)
        if not finite.all():
            for parameter in parameters:
                parameter.grad_sample = parameter.grad_sample.clone()
                parameter.grad_sample[~finite] = 0

    def _empty_batch(self) -> None:
        """Set the gradients that Opacus expects after a batch without images."""
        for parameter in self._optimizer.params:
            if self._ghost:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))


def system_entropy(device: torch.device) -> torch.Generator:
    """Create a generator on a device, seeded by the entropy of the operating system.

    PyTorch's generator is not cryptographic: whoever sees enough of its draws can compute the next
    ones. That does not apply here, since only sums of draws and gradients are released.
    """
    return torch.Generator(device=device).manual_seed(secrets.randbits(63))


def _optimizer(
    model: nn.Module,
    clipping: Clipping,
    *,
    ghost: bool,
    clipping_norm: float,
    noise_multiplier: float,
    expected_batch_size: int,
    generator: torch.Generator,
    secure: bool,
) -> DPOptimizer:
    """Create Opacus' optimizer, used to clip and add noise; the client's own optimizer steps."""
    inner = torch.optim.SGD(model.parameters(), lr=0.0)
    if isinstance(clipping, Quantile):
        return QuantileOptimizer(
            inner,
            clipping,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm,
            expected_batch_size=expected_batch_size,
            generator=generator,
            secure_mode=secure,
        )
    norm: float | list[float] = clipping_norm
    kind = DPOptimizerFastGradientClipping if ghost else DPOptimizer
    if clipping == "per-layer":
        trained = sum(parameter.requires_grad for parameter in model.parameters())
        norm, kind = [clipping_norm / math.sqrt(trained)] * trained, DPPerLayerOptimizer
    # The losses are summed over the examples; "mean" is the division by the expected batch size.
    return kind(
        inner,
        noise_multiplier=noise_multiplier,
        max_grad_norm=norm,
        expected_batch_size=expected_batch_size,
        loss_reduction="mean",
        generator=generator,
        secure_mode=secure,
    )
