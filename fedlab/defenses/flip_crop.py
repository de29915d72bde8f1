"""Flip and crop: ordinary augmentation of every image by itself, which keeps its label.

As a defense against poisons: Borgnia et al. (arXiv 2011.09527).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.defenses.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Generator

    from fedlab.defenses.augmentation import PixelChange
    from fedlab.defenses.pipeline import ClientContext


class FlipCrop(Augmentation):
    """Ordinary augmentation: a random horizontal flip, and a crop after padding with black."""

    padding: int = Field(default=4, ge=0)
    """Pixels added on each side before a crop of the image's own size."""
    flip: bool = True
    """Whether half of the images, at random, are mirrored."""

    colour: ClassVar[str] = "#88CCEE"

    def pixel_change(self, context: ClientContext, generator: Generator) -> PixelChange:
        """A flip and a crop of every image, drawn anew in each call."""
        from attacks.poisoning.augment import crop_and_flip

        return lambda pixels: crop_and_flip(
            pixels, generator=generator, padding=self.padding, flip=self.flip
        )
