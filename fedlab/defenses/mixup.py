"""Mixup: weighted means of k images of a batch, without noise and epsilon.

Zhang et al., "mixup" (arXiv 1710.09412); as a defense against poisons Borgnia et al. (arXiv
2011.09527), whose mixup takes k images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense
from fedlab.defenses.mixing import random_orders, soft
from fedlab.defenses.weights import dirichlet

if TYPE_CHECKING:
    from torch import Generator

    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline


class Mixup(Defense):
    """Mixes k images of a batch and their labels, with Dirichlet weights."""

    k: Count = Field(default=2, ge=2)
    """Number of images in a mixture, at least 2."""
    alpha: float = Field(default=1.0, gt=0)
    """Concentration, above 0, of the Dirichlet weights, which are drawn once per batch."""

    colour: ClassVar[str] = "#999933"
    strengths: ClassVar[tuple[str, ...]] = ("alpha",)
    keeps_guarantees: ClassVar[bool] = True
    mixes_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Mix a batch after its earlier changes."""
        generator, classes = context.stream(self.name), context.shard.num_classes
        return pipeline.transforming(
            lambda batch: mixup(
                batch, k=self.k, alpha=self.alpha, classes=classes, generator=generator
            )
        )


def mixup(batch: Batch, *, k: int, alpha: float, classes: int, generator: Generator) -> Batch:
    """Mix images and labels of a batch with those of k - 1 random orders of the same batch.

    One set of weights is drawn for the whole batch. An image may be mixed with itself.

    Args:
        batch: Batch of any size.
        k: Number of images in a mixture, at least 2.
        alpha: Concentration, above 0, of the Dirichlet weights.
        classes: Number of classes in the data set.
        generator: CPU generator of the random draws.

    Returns:
        The mixtures, with labels float32 ``[b, classes]``.
    """
    weights = dirichlet(1, k, alpha=alpha, generator=generator)[0].tolist()
    orders = [torch.arange(len(batch.members)), *random_orders(batch, k - 1, generator)]
    labels, device = soft(batch.labels, classes), batch.pixels.device
    pixels = torch.zeros_like(batch.pixels)
    shares = torch.zeros_like(labels)
    for weight, order in zip(weights, orders, strict=True):
        pixels.add_(batch.pixels[order.to(device)], alpha=weight)
        shares.add_(labels[order.to(device)], alpha=weight)
    sources = torch.cat([batch.sources[order.to(device)] for order in orders], dim=1)
    return replace(batch, sources=sources, pixels=pixels, labels=shares)
