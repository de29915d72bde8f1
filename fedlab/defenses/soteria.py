"""Soteria: pruning of the last linear layer's gradient by the sensitivity of its input features.

Sun et al., "Soteria: Provable Defense against Privacy Leakage in Federated Learning from
Representation Perspective" (CVPR 2021, arXiv 2012.06043), algorithm 1 and the authors' code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedlab.defenses.pipeline import ClientContext, Gradient, Pipeline

OFFSET = 0.1
"""Constant added to a feature before division, as in the authors' code: features may be 0."""

AT_ONCE = 64
"""Number of features whose derivatives are computed together, which limits the memory."""


class Soteria(Defense):
    """Prunes the last linear layer's gradient by the sensitivity of its input (arXiv 2012.06043).

    An attacker may leave the gradient of that layer out, which defeats the defense.
    """

    share: float = Field(default=0.6, gt=0, lt=1)
    """Share, in (0, 1), of the layer's input features whose gradient is set to 0."""

    colour: ClassVar[str] = "#44AA99"
    strengths: ClassVar[tuple[str, ...]] = ("share",)
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    changes_gradient: ClassVar[bool] = True
    selects_by_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Prune the pipeline's gradient after it is computed."""
        layer = last_linear(context.model)
        gradient = PrunedGradient(context.model, layer, pipeline.gradient, self.share)
        return replace(pipeline, gradient=gradient)

    def network_problem(self, model: nn.Module, shape: tuple[int, int, int]) -> str | None:
        """Refuse a network without a linear layer."""
        try:
            last_linear(model)
        except ValueError as error:
            return str(error)
        return None


class PrunedGradient:
    """A gradient in which the entries of some input features of a linear layer are 0.

    Args:
        model: The network; its features are computed in evaluation mode.
        layer: Linear layer of the network whose weight gradient is pruned.
        inner: Function that computes the gradient.
        share: Share, in (0, 1), of the input features that are pruned, lowest ``scores`` first.
    """

    def __init__(self, model: nn.Module, layer: nn.Linear, inner: Gradient, share: float) -> None:
        self._model = model
        self._layer = layer
        self._inner = inner
        self._pruned = round(share * layer.in_features)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Overwrite ``.grad`` of every parameter; features are computed with the current weights.

        Args:
            images: Normalised images, float32 ``[b, channels, height, width]``; may be empty.
            labels: int64 ``[b]`` or float32 ``[b, classes]``.
        """
        self._inner(images, labels)
        gradient = self._layer.weight.grad
        if gradient is None or not len(images):
            return
        lowest = scores(self._model, self._layer, images).argsort(stable=True)[: self._pruned]
        gradient[:, lowest] = 0


def scores(model: nn.Module, layer: nn.Linear, images: Tensor) -> Tensor:
    """Compute the score of each input feature r_j of a layer, as algorithm 1 of the paper does.

    The score of feature j is ``|sum_i ||dr_ij / dX_i|| / (r_ij + 0.1)|`` over the images X_i of a
    batch: the norm of its derivative with respect to the image, over the feature itself.

    Args:
        model: Network that treats images independently in evaluation mode, in which it is run; its
            modes are restored.
        layer: Linear layer of the network that takes one vector per image.
        images: Normalised images, float32 ``[b, channels, height, width]``.

    Returns:
        Scores, float32 ``[features]``.
    """
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    modes = {each: each.training for each in model.modules()}
    inputs = images.detach().requires_grad_()
    try:
        model.eval()(inputs)
    finally:
        hook.remove()
        for each, mode in modes.items():
            each.training = mode
    features = seen[0]
    # Features of an image depend on this image only, so the derivative of their sum over images
    # contains the derivatives of each image.
    total = features.sum(0)
    norms = [
        torch.autograd.grad(total, inputs, some, retain_graph=True, is_grads_batched=True)[0]
        .flatten(2)
        .norm(dim=2)
        for some in torch.split(torch.eye(len(total), device=images.device), AT_ONCE)
    ]
    return (torch.cat(norms).T / (features.detach() + OFFSET)).sum(0).abs()


def last_linear(model: nn.Module) -> nn.Linear:
    """Return the last linear layer of a network, whose input is its representation of an image.

    Raises:
        ValueError: If the network has no linear layer.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    if not layers:
        raise ValueError(
            "soteria prunes a linear layer, but the network has none: use pruning instead"
        )
    return layers[-1]
