"""A gradient that a defense changes after it is computed, in every local step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedlab.defenses.pipeline import Gradient

Change = Callable[[Mapping[str, "Tensor"], "Tensor", "Tensor"], Mapping[str, "Tensor"]]
"""Function from a gradient by parameter name, with the images and labels of its batch, to the
changed gradient."""


class ChangedGradient:
    """The gradient of another function after a change.

    Args:
        model: The network, whose parameters receive the gradient.
        inner: Function that computes the gradient.
        change: Function that changes it; parameters without a gradient are not among its tensors.
    """

    def __init__(self, model: nn.Module, inner: Gradient, change: Change) -> None:
        self._parameters = dict(model.named_parameters())
        self._inner = inner
        self._change = change

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Overwrite ``.grad`` of every parameter.

        Args:
            images: Normalised images, float32 ``[b, channels, height, width]``; may be empty.
            labels: int64 ``[b]`` or float32 ``[b, classes]``.
        """
        self._inner(images, labels)
        found = {n: p.grad for n, p in self._parameters.items() if p.grad is not None}
        for name, gradient in self._change(found, images, labels).items():
            self._parameters[name].grad = gradient
