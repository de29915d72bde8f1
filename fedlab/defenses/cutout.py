"""Cutout: a masked square in every image.

DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout"
(arXiv 1708.04552); as a defense against poisons Borgnia et al. (arXiv 2011.09527).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.defenses.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.augmentation import PixelChange
    from fedlab.defenses.pipeline import ClientContext


class Cutout(Augmentation):
    """Masks a square at a random place of every image (arXiv 1708.04552)."""

    side: float = Field(default=0.5, gt=0, le=1)
    """Side of the square as a share, in (0, 1], of the image's shorter side; borders clip it."""

    colour: ClassVar[str] = "#DDCC77"
    strengths: ClassVar[tuple[str, ...]] = ("side",)

    def pixel_change(self, context: ClientContext, generator: Generator) -> PixelChange:
        """Create the change that masks a square in every image."""
        fill = _normalised_to_zero(context)
        return lambda pixels: cutout(pixels, side=self.side, fill=fill, generator=generator)


def cutout(pixels: Tensor, *, side: float, fill: Tensor, generator: Generator) -> Tensor:
    """Mask a square around a random pixel of each image; the image's borders clip the square.

    Every pixel is equally likely to be the centre, as in the paper, so a square at the border is
    smaller. (In the code for arXiv 2011.09527 all images of a batch share one place.)

    Args:
        pixels: Images, float32 ``[b, channels, height, width]``.
        side: Side of the square as a share, in (0, 1], of the image's shorter side.
        fill: Colour of a masked pixel, float32 ``[channels, 1, 1]``.
        generator: CPU generator of the random draws.

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


def _normalised_to_zero(context: ClientContext) -> Tensor:
    """The colour that normalisation maps to 0, with which the paper masks normalised images."""
    black = torch.zeros_like(context.shard.images[:1], dtype=torch.float32)[:, :, :1, :1]
    low, high = context.network_input(black), context.network_input(black + 1)
    return (low / (low - high))[0]
