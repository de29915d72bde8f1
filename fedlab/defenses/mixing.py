"""Mixup and CutMix within a batch; no noise, so no epsilon.

Zhang et al., "mixup" (arXiv 1710.09412); Yun et al., "CutMix" (arXiv 1905.04899); as defenses
against poisons Borgnia et al. (arXiv 2011.09527), whose mixup takes k images.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline
from fedlab.defenses.settings import CutMix, Mixup
from fedlab.defenses.weights import dirichlet


class MixUp:
    """k-way mixup as a defense of one round."""

    def __init__(self, settings: Mixup) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the mixing after whatever the pipeline does to a batch already."""
        drawn = context.stream(self.settings.name)

        def transform(batch: Batch) -> Batch:
            return mixup(
                pipeline.transform(batch),
                k=self.settings.k,
                alpha=self.settings.alpha,
                classes=context.shard.num_classes,
                generator=drawn,
            )

        return replace(pipeline, transform=transform)


class PasteBox:
    """CutMix as a defense of one round."""

    def __init__(self, settings: CutMix) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the pasting after whatever the pipeline does to a batch already."""
        drawn = context.stream(self.settings.name)

        def transform(batch: Batch) -> Batch:
            return cutmix(
                pipeline.transform(batch),
                alpha=self.settings.alpha,
                probability=self.settings.probability,
                classes=context.shard.num_classes,
                generator=drawn,
            )

        return replace(pipeline, transform=transform)


def mixup(batch: Batch, *, k: int, alpha: float, classes: int, generator: torch.Generator) -> Batch:
    """Images and labels of a batch mixed with those of k - 1 random orders of the same batch.

    One set of weights is drawn for the batch. An image may meet itself.

    Args:
        batch: Of any size.
        k: Images in a mixture.
        alpha: Concentration of the Dirichlet weights.
        classes: Of the whole data set.
        generator: CPU generator.

    Returns:
        The mixtures, labels float32 ``[b, classes]``.
    """
    weights = dirichlet(1, k, alpha=alpha, generator=generator)[0].tolist()
    orders = [torch.arange(len(batch.members)), *_orders(batch, k - 1, generator)]
    labels, device = soft(batch.labels, classes), batch.pixels.device
    pixels = torch.zeros_like(batch.pixels)
    shares = torch.zeros_like(labels)
    for weight, order in zip(weights, orders, strict=True):
        pixels.add_(batch.pixels[order.to(device)], alpha=weight)
        shares.add_(labels[order.to(device)], alpha=weight)
    sources = torch.cat([batch.sources[order.to(device)] for order in orders], dim=1)
    return replace(batch, sources=sources, pixels=pixels, labels=shares)


def cutmix(
    batch: Batch, *, alpha: float, probability: float, classes: int, generator: torch.Generator
) -> Batch:
    """Each image with one box of another image of the batch, at the same place in all of them.

    The label is shared by exact area, after the image's borders clipped the box. A batch that is
    left as it is comes back in the same form, each image its own partner.

    Args:
        batch: Of any size.
        alpha: The share that is kept is from Beta(alpha, alpha), but for the clipping.
        probability: Of a batch being mixed at all.
        classes: Of the whole data set.
        generator: CPU generator.

    Returns:
        The mixtures, labels float32 ``[b, classes]``.
    """
    labels, device = soft(batch.labels, classes), batch.pixels.device
    if float(torch.rand((), generator=generator)) >= probability:
        return replace(batch, sources=batch.sources.repeat(1, 2), labels=labels)
    # Beta(alpha, alpha) is the first of two Dirichlet weights.
    kept = float(dirichlet(1, 2, alpha=alpha, generator=generator)[0, 0])
    height, width = batch.pixels.shape[2:]
    rows, columns = (_span(length, (1 - kept) ** 0.5, generator) for length in (height, width))
    (order,) = _orders(batch, 1, generator)
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


def soft(labels: Tensor, classes: int) -> Tensor:
    """Labels as shares of classes, float32 ``[b, classes]``; those that are so already stay."""
    return labels if labels.is_floating_point() else functional.one_hot(labels, classes).float()


def _orders(batch: Batch, count: int, generator: torch.Generator) -> list[Tensor]:
    return [torch.randperm(len(batch.members), generator=generator) for _ in range(count)]


def _span(length: int, share: float, generator: torch.Generator) -> slice:
    """A share of a side around a random pixel, clipped at the borders."""
    size = int(share * length)
    first = int(torch.randint(length, (), generator=generator)) - size // 2
    return slice(max(first, 0), min(first + size, length))
