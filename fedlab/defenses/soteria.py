"""Prune the gradient of the last linear layer where its input tells most about the images.

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
"""Added to a feature before it divides, as in the authors' code: those behind a ReLU may be 0."""

AT_ONCE = 64
"""Features whose derivatives are taken together, which bounds the memory."""


class Soteria(Defense):
    """Prunes the gradient of one linear layer by how much its input tells (arXiv 2012.06043).

    An attacker may simply leave that layer out.
    """

    share: float = Field(default=0.6, gt=0, lt=1)
    """Share of the layer's input features whose gradient is set to 0."""

    colour: ClassVar[str] = "#44AA99"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    selects_by_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Prune the gradient that the pipeline computes already."""
        layer = last_linear(context.model)
        gradient = PrunedGradient(context.model, layer, pipeline.gradient, self.share)
        return replace(pipeline, gradient=gradient)

    def network_problem(self, model: nn.Module, shape: tuple[int, int, int]) -> str | None:
        """The network needs a linear layer."""
        try:
            last_linear(model)
        except ValueError as error:
            return str(error)
        return None


class PrunedGradient:
    """A gradient without the entries of some input features of a linear layer.

    Args:
        model: The network, asked for its features in evaluation mode.
        layer: Whose weight is pruned.
        inner: Gives the gradient.
        share: Of the features, those with the lowest ``scores``.
    """

    def __init__(self, model: nn.Module, layer: nn.Linear, inner: Gradient, share: float) -> None:
        self._model = model
        self._layer = layer
        self._inner = inner
        self._pruned = round(share * layer.in_features)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Set ``.grad`` of every parameter; the features are those before the step."""
        self._inner(images, labels)
        gradient = self._layer.weight.grad
        if gradient is None or not len(images):
            return
        lowest = scores(self._model, self._layer, images).argsort(stable=True)[: self._pruned]
        gradient[:, lowest] = 0


def scores(model: nn.Module, layer: nn.Linear, images: Tensor) -> Tensor:
    """How much an image has to change for each input feature of a layer to change.

    The score of feature j is ``|sum_i ||dr_ij / dX_i|| / (r_ij + 0.1)|`` over the images i of the
    batch.

    Args:
        model: Treats images one by one in evaluation mode, which it is asked in.
        layer: Of the model; takes one vector for each image.
        images: Normalised ``[b, channels, height, width]``.

    Returns:
        float32 ``[features]``.
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
    # An image reaches no features but its own, so a sum over images has all their derivatives.
    total = features.sum(0)
    norms = [
        torch.autograd.grad(total, inputs, some, retain_graph=True, is_grads_batched=True)[0]
        .flatten(2)
        .norm(dim=2)
        for some in torch.split(torch.eye(len(total), device=images.device), AT_ONCE)
    ]
    return (torch.cat(norms).T / (features.detach() + OFFSET)).sum(0).abs()


def last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer of a network, whose input is what it knows of an image.

    Raises:
        ValueError: If there is none.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    if not layers:
        raise ValueError("soteria prunes a linear layer, but the network has none")
    return layers[-1]
