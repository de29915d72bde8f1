"""Defenses that change every image by itself and keep its label: flip and crop, and Cutout.

DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout"
(arXiv 1708.04552); as defenses against poisons Borgnia et al. (arXiv 2011.09527).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.defenses.pipeline import Batch, Circumstances, Pipeline
from fedlab.defenses.settings import Cutout, FlipCrop

PixelChange = Callable[[Tensor], Tensor]
"""Changes float32 ``[b, channels, height, width]`` in [0, 1]."""


class Augment:
    """An augmentation as a defense of one round."""

    def __init__(self, settings: FlipCrop | Cutout) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, around: Circumstances) -> Pipeline:
        """Put the augmentation after whatever the pipeline does to a batch already."""
        change = pixel_change(self.settings, around, generator=around.stream(self.settings.name))

        def transform(batch: Batch) -> Batch:
            batch = pipeline.transform(batch)
            return replace(batch, pixels=change(batch.pixels))

        return replace(pipeline, transform=transform)


def pixel_change(
    settings: FlipCrop | Cutout, around: Circumstances, *, generator: torch.Generator
) -> PixelChange:
    """The change of pixels that settings ask for; every call draws anew.

    Args:
        settings: Of the augmentation.
        around: Says what the network takes as 0, which masks a pixel.
        generator: CPU generator.
    """
    match settings:
        case FlipCrop(padding=padding, flip=flip):
            return lambda pixels: flip_crop(pixels, padding=padding, flip=flip, generator=generator)
        case Cutout(side=side):
            fill = _taken_as_zero(around)
            return lambda pixels: cutout(pixels, side=side, fill=fill, generator=generator)
    assert_never(settings)


def flip_crop(pixels: Tensor, *, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to the padding in both directions, and flipped or not.

    Args:
        pixels: float32 ``[b, channels, height, width]``.
        padding: Black pixels added on each side before the crop.
        flip: Whether half of the images are mirrored left to right.
        generator: CPU generator.

    Returns:
        New pixels of the same shape.
    """
    count, channels, height, width = pixels.shape
    corner = torch.randint(2 * padding + 1, (count, 2), generator=generator)
    rows = corner[:, :1] + torch.arange(height)
    columns = corner[:, 1:] + torch.arange(width)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    # One index into flat images: separate ones for rows and columns take five times as long.
    places = rows.unsqueeze(2) * (width + 2 * padding) + columns.unsqueeze(1)
    places = places.to(pixels.device).view(count, 1, height * width).expand(-1, channels, -1)
    padded = functional.pad(pixels, (padding,) * 4).flatten(2)
    return padded.gather(2, places).view(pixels.shape)


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


def _taken_as_zero(around: Circumstances) -> Tensor:
    """The colour that normalisation maps to 0, as Cutout masks normalised images: their mean."""
    black = torch.zeros_like(around.shard.images[:1], dtype=torch.float32)[:, :, :1, :1]
    low, high = around.network_input(black), around.network_input(black + 1)
    return (low / (low - high))[0]
