"""Differentiable random crops and flips."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class CropAndFlip:
    """The augmentation that poisons are crafted to survive; the defaults suit CIFAR-10.

    Attributes:
        padding: Largest shift in pixels.
        flip: Mirror half of the images left to right.
    """

    padding: int = 4
    flip: bool = True

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Apply ``crop_and_flip``."""
        return crop_and_flip(pixels, generator=generator, padding=self.padding, flip=self.flip)


def crop_and_flip(
    pixels: Tensor, *, generator: torch.Generator, padding: int, flip: bool = True
) -> Tensor:
    """Shift each image at random by up to the padding in both directions, and flip half of them.

    Args:
        pixels: Images, float ``[b, channels, height, width]``.
        generator: CPU random generator.
        padding: Number of black pixels added on each side before the crop.
        flip: Mirror half of the images left to right.

    Returns:
        New images of the same shape, differentiable by the old ones.
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
