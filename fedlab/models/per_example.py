"""Per-example gradients, or only their norms, by one of Opacus' methods or one image at a time.

Yousefpour et al., "Opacus: User-Friendly Differential Privacy Library in PyTorch"
(arXiv 2109.12298); ghost clipping is by Li et al. (arXiv 2110.05679). Opacus is imported when it is
first used, since it takes seconds and 40 MB.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from opacus.grad_sample import AbstractGradSampleModule

Mode = Literal["hooks", "ew", "functorch", "ghost", "loop"]
"""``hooks`` on every layer, PyTorch's expanded weights (``ew``), ``functorch``'s vmap, ``ghost``
clipping, which runs two backward passes and keeps only the norms, or a ``loop`` over the images."""

_LEFT_BY_OPACUS = frozenset({"activations", "max_batch_len", "ft_compute_sample_grad"})
"""Attributes of layers that Opacus removes only at the end of a backward pass that succeeds."""


class PerExampleGradients:
    """Computes the gradient of each image of a batch, by a mode of Opacus or a loop.

    Opacus' modes assume that the first dimension of every layer's input is the image and that each
    parameter is used by its own layer alone; ``private_training_problem`` tries whether that holds.
    The loop assumes nothing, since it passes each image through the network by itself.

    Args:
        model: Network, changed in place until ``close`` is called.
        mode: Method by which the gradients are found.
        clipping_norm: Largest L2 norm of a per-example gradient, above 0; only ``ghost`` uses it,
            since it clips during the backward pass.

    Attributes:
        module: Opacus' wrapper of the network; ``None`` for the loop.
        trained: Parameters that require a gradient.

    Raises:
        NotImplementedError: If Opacus does not support one of the layers.
    """

    def __init__(self, model: nn.Module, mode: Mode, *, clipping_norm: float = 1.0) -> None:
        self._model = model
        self._names = {p: name for name, p in model.named_parameters()}
        self._modes = {layer: layer.training for layer in model.modules()}
        self._own = {layer: _LEFT_BY_OPACUS & layer.__dict__.keys() for layer in self._modes}
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self._layouts = [
            layer.register_forward_pre_hook(_plain_layout)
            for layer in model.modules()
            if isinstance(layer, nn.Conv2d) and mode != "loop"
        ]
        self.module: AbstractGradSampleModule | None = None
        try:
            self.module = _wrapped(model, mode, clipping_norm)
        except Exception:
            self.close()
            raise

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each image, ``[b]``."""
        outputs = (self._model if self.module is None else self.module)(images)
        return functional.cross_entropy(outputs, labels, reduction="none")

    def compute(self, images: Tensor, labels: Tensor) -> None:
        """Store the gradient of each image in ``grad_sample`` of every trained parameter.

        Args:
            images: Normalised images, float32 ``[b, channels, height, width]``, at least one.
            labels: int64 ``[b]`` or float32 ``[b, classes]``.

        Raises:
            RuntimeError: If Opacus misses a parameter that the batch uses.
        """
        if self.module is None:
            self._loop(images, labels)
            return
        for parameter in self.trained:
            parameter.grad, parameter._forward_counter = None, 0  # type: ignore[attr-defined]
        with ignoring_full_backward_hooks():
            self.losses(images, labels).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in self.trained:
            if getattr(parameter, "grad_sample", None) is None:
                if parameter.grad is not None:
                    raise RuntimeError(
                        f'its parameter "{self._names[parameter]}" gets no gradient for each '
                        'image by itself: set per_example = "loop"'
                    )
                parameter.grad_sample = parameter.new_zeros((len(images), *parameter.shape))  # type: ignore[attr-defined]

    @property
    def norms(self) -> Tensor:
        """Norms ``[b]`` of the gradients of the last batch, which only ``ghost`` computes."""
        norms: Tensor = self.module.per_sample_gradient_norms  # type: ignore[union-attr]
        return norms

    def close(self) -> None:
        """Remove the hooks and attributes, and restore the mode of every layer."""
        if self.module is not None:
            self.module.to_standard_module()
        for hook in self._layouts:
            hook.remove()
        for layer, mode in self._modes.items():
            layer.training = mode
            for name in _LEFT_BY_OPACUS - self._own[layer]:
                layer.__dict__.pop(name, None)
        for parameter in self.trained:
            for name in ("grad_sample", "summed_grad", "_norm_sample", "_forward_counter"):
                if hasattr(parameter, name):
                    delattr(parameter, name)

    def _loop(self, images: Tensor, labels: Tensor) -> None:
        for parameter in self.trained:
            parameter.grad_sample = parameter.new_zeros((len(images), *parameter.shape))  # type: ignore[attr-defined]
        for index in range(len(images)):
            one = slice(index, index + 1)
            loss = self.losses(images[one], labels[one]).sum()
            found = torch.autograd.grad(loss, self.trained, allow_unused=True)
            for parameter, gradient in zip(self.trained, found, strict=True):
                if gradient is not None:
                    parameter.grad_sample[index] = gradient.to_dense()  # type: ignore[attr-defined]


@contextmanager
def ignoring_full_backward_hooks() -> Iterator[None]:
    """Ignore the warning that full backward hooks give because images require no gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield


def _wrapped(
    model: nn.Module, mode: Mode, clipping_norm: float
) -> "AbstractGradSampleModule | None":
    """Attach Opacus to a network; the loss must be a sum over the examples."""
    if mode == "loop":
        return None
    from opacus import GradSampleModule
    from opacus.grad_sample import (
        GradSampleModuleExpandedWeights,
        GradSampleModuleFastGradientClipping,
    )

    if mode == "ew":
        return GradSampleModuleExpandedWeights(model, loss_reduction="sum")
    if not model.training:
        # Opacus' hooks skip layers in evaluation mode. No layer with parameters that DP-SGD can
        # train behaves differently in training mode; Dropout does, but has no parameters.
        for layer in model.modules():
            layer.training = any(True for _ in layer.parameters(recurse=False))
    # Not strict: it would refuse every layer with a buffer, and the trial finds those that do harm.
    if mode == "ghost":
        return GradSampleModuleFastGradientClipping(
            model, loss_reduction="sum", max_grad_norm=clipping_norm, strict=False
        )
    return GradSampleModule(
        model, loss_reduction="sum", force_functorch=mode == "functorch", strict=False
    )


def _plain_layout(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward hook that copies a convolution's inputs to NCHW memory order.

    Opacus 1.6 reads the memory as NCHW regardless of strides. Inputs in channels-last order, which
    PyTorch itself may choose for grey images, would give wrong per-example gradients, and clipping
    would not bound the right ones.
    """
    return tuple(
        each
        if each.stride() == _nchw(each.shape)
        else each.clone(memory_format=torch.contiguous_format)
        for each in inputs
    )


def _nchw(shape: torch.Size) -> tuple[int, ...]:
    """Strides in NCHW order; with one channel, ``is_contiguous`` is true for other strides too."""
    below = accumulate(reversed(shape[1:]), mul, initial=1)
    return tuple(reversed(list(below)))
