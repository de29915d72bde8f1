"""Random crops and flips of pixels, through which an attack can be differentiated."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class CropAndFlip:
    """The augmentation that poisons are made to survive; the defaults suit CIFAR-10.

    Attributes:
        padding: See ``crop_and_flip``.
        flip: See there.
    """

    padding: int = 4
    flip: bool = True

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """See ``crop_and_flip``."""
        return crop_and_flip(pixels, generator=generator, padding=self.padding, flip=self.flip)


def crop_and_flip(
    pixels: Tensor, *, generator: torch.Generator, padding: int, flip: bool = True
) -> Tensor:
    """Each image shifted by up to the padding in both directions, and flipped or not.

    Args:
        pixels: float ``[b, channels, height, width]``.
        generator: CPU generator.
        padding: Black pixels added on each side before the crop.
        flip: Whether half of the images are mirrored left to right.

    Returns:
        New pixels of the same shape, differentiable by the old ones.
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
