"""Defenses that change every image by itself and keep its label: flip and crop, and Cutout.

DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout"
(arXiv 1708.04552); as defenses against poisons Borgnia et al. (arXiv 2011.09527).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

import torch
from torch import Tensor

from attacks.poisoning.augment import crop_and_flip
from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline
from fedlab.defenses.settings import Cutout, FlipCrop

PixelChange = Callable[[Tensor], Tensor]
"""Changes float32 ``[b, channels, height, width]`` in [0, 1]."""


class Augment:
    """An augmentation as a defense of one round."""

    def __init__(self, settings: FlipCrop | Cutout) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the augmentation after whatever the pipeline does to a batch already."""
        change = pixel_change(self.settings, context, generator=context.stream(self.settings.name))

        def transform(batch: Batch) -> Batch:
            batch = pipeline.transform(batch)
            return replace(batch, pixels=change(batch.pixels))

        return replace(pipeline, transform=transform)


def pixel_change(
    settings: FlipCrop | Cutout, context: ClientContext, *, generator: torch.Generator
) -> PixelChange:
    """The change of pixels that settings ask for; every call draws anew.

    Args:
        settings: Of the augmentation.
        context: Says what the network takes as 0, which masks a pixel.
        generator: CPU generator.
    """
    match settings:
        case FlipCrop(padding=padding, flip=flip):
            return lambda pixels: crop_and_flip(
                pixels, generator=generator, padding=padding, flip=flip
            )
        case Cutout(side=side):
            fill = _taken_as_zero(context)
            return lambda pixels: cutout(pixels, side=side, fill=fill, generator=generator)
    assert_never(settings)


def cutout(pixels: Tensor, *, side: float, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Each image with a square masked around a random pixel; the image's borders clip it.

    Every pixel is the centre equally often, as in the original, so a square at the border is
    smaller. (In the code for arXiv 2011.09527 a whole batch shares one place.)

    Args:
        pixels: float32 ``[b, channels, height, width]``.
        side: Of the square, as a share of the image's shorter side.
        fill: float32 ``[channels, 1, 1]``, the colour of a masked pixel.
        generator: CPU generator.

    Returns:
        New pixels of the same shape.
    """
    height, width = pixels.shape[2:]
    size = max(1, round(side * min(height, width)))
    inside = []
    for length in (height, width):
        first = torch.randint(length, (len(pixels), 1), generator=generator) - size // 2
        places = torch.arange(length)
        inside.append((places >= first) & (places < first + size))
    masked = (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)
    return torch.where(masked.to(pixels.device), fill, pixels)


def _taken_as_zero(context: ClientContext) -> Tensor:
    """The colour that normalisation maps to 0, as Cutout masks normalised images: their mean."""
    black = torch.zeros_like(context.shard.images[:1], dtype=torch.float32)[:, :, :1, :1]
    low, high = context.network_input(black), context.network_input(black + 1)
    return (low / (low - high))[0]
