"""DCS-2: gradients that mix those of images with those of optimised images that conceal them.

Wu et al., "Concealing Sensitive Samples against Gradient Leakage in Federated Learning" (AAAI 2024,
arXiv 2209.05724), with the constants of the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import ELSEWHERE, Defense

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from fedlab.data.shard import Shard
    from fedlab.defenses.pipeline import ClientContext, Gradient, Pipeline

DROPS = (3 / 8, 5 / 8, 7 / 8)
"""Shares of the iterations after which the step size falls to a tenth."""


class ConcealedSamples(Defense):
    """Adds the gradient of optimised images that conceal the last images of a batch (AAAI 2024).

    A concealing image is far from its sensitive image and of another class, but has about the same
    gradient and outputs. The search takes many steps for every local step.
    """

    sensitive: Count = Field(default=1, ge=1)
    """Number of images of each batch that are concealed, at least 1: the last ones."""
    iterations: Count = Field(default=500, ge=1)
    """Number of steps of Adam in the search for concealing images, at least 1."""
    lr: float = Field(default=0.1, gt=0)
    """Step size of the search in normalised pixels, above 0."""
    share: float = Field(default=0.7, gt=0, lt=1)
    """Share, in (0, 1), of the public image in the first concealing image, and of its class in the
    label of the last one; the rest is that of the sensitive image."""
    distance_weight: float = Field(default=0.01, ge=0)
    """Rate, at least 0 for each unit of the L2 distance in normalised pixels, at which the cost of
    being close to the sensitive image falls."""
    output_weight: float = Field(default=0.01, ge=0)
    """Weight, at least 0, of the relative L2 distance between the outputs of both images."""
    farthest: float = Field(default=150.0, gt=0)
    """Mean L2 distance in normalised pixels, above 0, beyond which the search ends."""

    colour: ClassVar[str] = "#33BBEE"
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    computes_gradient: ClassVar[bool] = True
    selects_by_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Replace the pipeline's gradient."""
        from fedlab.defenses.pipeline import PlainGradient

        if not isinstance(pipeline.gradient, PlainGradient):
            raise ValueError(
                f"{self.name} computes the gradient itself, which would discard what an earlier "
                f"defense does to it: list that defense after {self.name}, or leave one out"
            )
        if context.public is None:
            raise ValueError(f"{self.name} needs public images to start from: there are none")
        return replace(pipeline, gradient=_ConcealedGradient(pipeline.gradient, context, self))

    def conflict(self, other: Defense) -> str | None:
        """Refuse mixing, since a concealing image is of another class than its image."""
        if other.mixes_images:
            return (
                f"both {self.name} and {other.name}: a concealing image is of another class than "
                f"its image, which needs one label for each; {ELSEWHERE}"
            )
        return None


class _ConcealedGradient:
    """A third of the gradient of a batch and one of its concealing images, projected.

    Args:
        inner: The gradient of a batch.
        context: The client's round.
        settings: Settings of the defense.
    """

    def __init__(self, inner: Gradient, context: ClientContext, settings: ConcealedSamples) -> None:
        self._inner, self._context, self._settings = inner, context, settings
        self._generator = context.stream(settings.name)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Overwrite ``.grad`` of every parameter.

        Args:
            images: Normalised images, float32 ``[b, channels, height, width]``; may be empty.
            labels: int64 ``[b]``.
        """
        self._inner(images, labels)
        public = self._context.public
        if not len(images) or public is None:
            return
        model, settings = self._context.model, self._settings
        true = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        own, classes = images[-settings.sensitive :], labels[-settings.sensitive :]
        places = others_of(public, classes, generator=self._generator)
        others = self._context.network_input(public.images[places].float().div(255))
        other_classes = public.labels[places]
        concealing = concealed(model, own, classes, others, other_classes, settings)
        parts = [
            (settings.share, concealing, other_classes),
            (1 - settings.share, concealing, classes),
            (1.0, images, labels),
        ]
        mixed = {name: torch.zeros_like(tensor) for name, tensor in true.items()}
        for weight, inputs, wanted in parts:
            self._inner(inputs, wanted)
            for name, parameter in model.named_parameters():
                if name in mixed and parameter.grad is not None:
                    mixed[name] += weight / len(parts) * parameter.grad
        for name, parameter in model.named_parameters():
            if name in mixed:
                parameter.grad = mixed[name]
        _project(model, true)


def others_of(public: Shard, labels: Tensor, *, generator: Generator) -> Tensor:
    """Draw a public image of another class for each of some labels.

    Args:
        public: Public images.
        labels: int64 ``[n]``.
        generator: CPU generator of the random draws.

    Returns:
        Indices of the public images, int64 ``[n]``.

    Raises:
        ValueError: If there is no public image of another class.
    """
    places = []
    for label in labels:
        found = (public.labels != label).nonzero().squeeze(1)
        if not len(found):
            raise ValueError(
                "dcs-2 conceals an image by one of another class, but all public images are of "
                f"class {int(label)}"
            )
        places.append(found[int(torch.randint(len(found), (), generator=generator))])
    return torch.stack(places)


def concealed(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    others: Tensor,
    other_labels: Tensor,
    settings: ConcealedSamples,
) -> Tensor:
    """Optimise an image for each of some images, with its gradient and outputs but far from it.

    The cost is 1 - cos(g(x), g*) + exp(-a ||x - x*||) + b ||f(x) - f(x*)|| / ||f(x*)|| with the
    gradient g and the outputs f of the network in evaluation mode, and means over images. (The
    paper subtracts a constant from the last term, which changes no step.)

    Args:
        model: Network at the weights of the step; its modes are restored.
        images: Normalised images x*, float32 ``[n, channels, height, width]``.
        labels: Their classes, int64 ``[n]``.
        others: Normalised images of other classes, of the same shape.
        other_labels: Classes of the concealing images, int64 ``[n]``.
        settings: Step size, weights and number of iterations.

    Returns:
        Normalised images of the same shape, which may leave the range of pixels.
    """
    from attacks.gradients import batch_gradient
    from attacks.reconstruction.objectives import misalignment
    from fedlab.core.modes import kept_modes

    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = dict(model.named_buffers())
    found = (settings.share * others + (1 - settings.share) * images).requires_grad_()
    optimiser = torch.optim.Adam([found], lr=settings.lr)
    marks = [max(1, int(share * settings.iterations)) for share in DROPS]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, marks, gamma=0.1)
    with kept_modes(model):
        model.eval()
        distance = misalignment(batch_gradient(model, parameters, buffers, images, labels))
        with torch.no_grad():
            outputs = model(images)
        for _ in range(settings.iterations):
            gradient = batch_gradient(
                model, parameters, buffers, found, other_labels, create_graph=True
            )
            away = (found - images).flatten(1).norm(dim=1).mean()
            moved = torch.func.functional_call(model, parameters, (found,)) - outputs
            relative = (moved.norm(dim=1) / outputs.norm(dim=1)).mean()
            cost = distance(gradient) + torch.exp(-settings.distance_weight * away)
            cost = cost + settings.output_weight * relative
            (found.grad,) = torch.autograd.grad(cost, found)
            optimiser.step()
            scheduler.step()
            if float(away.detach()) > settings.farthest:
                break
    return found.detach()


def _project(model: nn.Module, true: Mapping[str, Tensor]) -> None:
    """Remove from ``.grad`` what points against a gradient, all tensors taken as one vector."""
    own = {n: p.grad for n, p in model.named_parameters() if n in true and p.grad is not None}
    along = torch.stack([(own[name] * true[name]).sum() for name in own]).sum()
    square = torch.stack([tensor.square().sum() for tensor in true.values()]).sum()
    if along < 0 and square > 0:
        for name, gradient in own.items():
            gradient -= along / square * true[name]
