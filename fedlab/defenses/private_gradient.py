"""The private gradient of a batch: Opacus clips each example's gradient and adds the noise."""

import math
import secrets
import warnings
from itertools import accumulate
from operator import mul
from typing import Literal

import torch
from opacus.optimizers import (
    DPOptimizer,
    DPOptimizerFastGradientClipping,
    DPPerLayerOptimizer,
)
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn
from torch.nn import functional

from fedlab.defenses.adaptive_clipping import Quantile, QuantileOptimizer
from fedlab.models.per_example import Mode, with_per_example_gradients

Clipping = Literal["flat", "per-layer"] | Quantile
"""One norm for the whole gradient, an equal part of it for each parameter, or one that adapts."""


class PrivateGradient:
    """The noisy mean of per-example gradients, each clipped to a norm (Opacus).

    The sum of the clipped gradients is divided by the *expected* batch size, as the
    analysis of Poisson sampling asks, so an empty batch is a release of pure noise.

    Args:
        model: Has Opacus' hooks on until ``close`` is called.
        clipping_norm: Largest L2 norm that one example's gradient keeps; of adaptive clipping the
            one to start from.
        noise_multiplier: Standard deviation of the noise over the clipping norm. Of adaptive
            clipping it covers the count that is released beside the gradient, too.
        expected_batch_size: Images in a batch on average.
        generator: Of the noise, on the device of the network.
        clipping: How.
        mode: How per-example gradients are found; ``ghost`` goes with flat clipping.
        at_once: Gradients kept at a time; batches above it are taken in parts. All unless given.
        secure: Draw the noise so that its floating-point digits do not give it away
            (arXiv 2107.10138).
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
        self._modes = {layer: layer.training for layer in model.modules()}
        self._model = with_per_example_gradients(model, mode, clipping_norm=clipping_norm)
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
        layers = (module for module in model.modules() if isinstance(module, nn.Conv2d))
        self._layouts = [layer.register_forward_pre_hook(_plain_layout) for layer in layers]

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Set ``.grad`` of every parameter to the private gradient of a batch."""
        size = self._at_once or max(1, len(images))
        parts = list(zip(torch.split(images, size), torch.split(labels, size), strict=True))
        for place, (some, their_labels) in enumerate(parts, start=1):
            # Keeps the sum of the parts before, if this is not the first.
            self._optimizer.zero_grad(set_to_none=True)
            if len(some):
                self._backward(some, their_labels)
            else:
                self._nothing()
            self._optimizer.signal_skip_step(place < len(parts))
            self._optimizer.pre_step()

    @property
    def clipping_norm(self) -> float:
        """The norm of the next batch."""
        norm: float = self._optimizer.max_grad_norm
        return norm

    def close(self) -> None:
        """Take Opacus' hooks and attributes off the network."""
        self._optimizer.zero_grad(set_to_none=True)
        self._model.to_standard_module()
        for hook in self._layouts:
            hook.remove()
        for layer, mode in self._modes.items():
            layer.training = mode
        for parameter in self._optimizer.params:
            for name in ("grad_sample", "summed_grad"):
                if hasattr(parameter, name):
                    delattr(parameter, name)

    def _backward(self, images: Tensor, labels: Tensor) -> None:
        with warnings.catch_warnings():
            # Images need no gradient, which full backward hooks warn about.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            outputs = self._model(images)
            if self._ghost:
                losses = functional.cross_entropy(outputs, labels, reduction="none")
                DPTensorFastGradientClipping(self._model, self._optimizer, losses, "sum").backward()
            else:
                loss = functional.cross_entropy(outputs, labels, reduction="sum")
                loss.backward()  # type: ignore[no-untyped-call]

    def _nothing(self) -> None:
        """What is left behind by a batch without images."""
        for parameter in self._optimizer.params:
            if self._ghost:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))


def system_entropy(device: torch.device) -> torch.Generator:
    """A generator that starts where nobody can know, on a device.

    It is PyTorch's own, which is not made for cryptography: who sees enough of its draws without
    noise on them could compute the next ones. Here nobody does.
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
    """Opacus' optimizer for a kind of clipping, which is never stepped: the client's own is."""
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


def _plain_layout(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Opacus 1.6 reads a convolution's input as if it lay in NCHW order, whatever its strides.

    Those in channels-last order, which PyTorch chooses by itself behind some grey images, would
    give wrong per-example gradients, and clipping would then bound the wrong thing.
    """
    return tuple(
        each
        if each.stride() == _nchw(each.shape)
        else each.clone(memory_format=torch.contiguous_format)
        for each in inputs
    )


def _nchw(shape: torch.Size) -> tuple[int, ...]:
    """Strides of a tensor in NCHW order; ``is_contiguous`` says yes to others with one channel."""
    below = accumulate(reversed(shape[1:]), mul, initial=1)
    return tuple(reversed(list(below)))
