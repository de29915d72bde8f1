"""CutMix: a box of another image of the batch in every image, without noise and epsilon.

Yun et al., "CutMix" (arXiv 1905.04899); as a defense against poisons Borgnia et al. (arXiv
2011.09527).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.defenses.base import Defense
from fedlab.defenses.mixing import random_orders, soft
from fedlab.defenses.weights import dirichlet

if TYPE_CHECKING:
    from torch import Generator

    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline


class CutMix(Defense):
    """Pastes a box of another image of the batch into each image, and mixes labels by area."""

    alpha: float = Field(default=1.0, gt=0)
    """Parameter, above 0, of the Beta(alpha, alpha) distribution of the share of an image kept."""
    probability: float = Field(default=0.5, gt=0, le=1)
    """Probability, in (0, 1], that a batch is mixed."""

    colour: ClassVar[str] = "#AA4499"
    strengths: ClassVar[tuple[str, ...]] = ("alpha", "probability")
    keeps_guarantees: ClassVar[bool] = True
    mixes_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Paste boxes into a batch after its earlier changes."""
        generator = context.stream(self.name)
        return pipeline.transforming(
            lambda batch: cutmix(
                batch,
                alpha=self.alpha,
                probability=self.probability,
                classes=context.shard.num_classes,
                generator=generator,
            )
        )


def cutmix(
    batch: Batch, *, alpha: float, probability: float, classes: int, generator: Generator
) -> Batch:
    """Paste one box of another image of the batch into each image, at the same place in all.

    Labels are mixed by the exact area of the box after the image's borders clip it. A batch that is
    not mixed has the same form: each image is its own partner.

    Args:
        batch: Batch of any size.
        alpha: Parameter, above 0, of the Beta(alpha, alpha) distribution of the share of an image
            that is kept, before clipping.
        probability: Probability, in (0, 1], that the batch is mixed.
        classes: Number of classes in the data set.
        generator: CPU generator of the random draws.

    Returns:
        The mixtures, with labels float32 ``[b, classes]``.
    """
    labels, device = soft(batch.labels, classes), batch.pixels.device
    if float(torch.rand((), generator=generator)) >= probability:
        return replace(batch, sources=batch.sources.repeat(1, 2), labels=labels)
    # Beta(alpha, alpha) is the first of two Dirichlet weights.
    kept = float(dirichlet(1, 2, alpha=alpha, generator=generator)[0, 0])
    height, width = batch.pixels.shape[2:]
    rows, columns = (_span(length, (1 - kept) ** 0.5, generator) for length in (height, width))
    (order,) = random_orders(batch, 1, generator)
    order = order.to(device)
    pixels = batch.pixels.clone()
    pixels[:, :, rows, columns] = batch.pixels[order][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return replace(
        batch,
        sources=torch.cat([batch.sources, batch.sources[order]], dim=1),
        pixels=pixels,
        labels=(1 - area) * labels + area * labels[order],
    )


def _span(length: int, share: float, generator: Generator) -> slice:
    """Pixels of a box along one side, around a random pixel and clipped at the borders."""
    size = int(share * length)
    first = int(torch.randint(length, (), generator=generator)) - size // 2
    return slice(max(first, 0), min(first + size, length))
