"""Flip and crop: standard augmentation of every image, which keeps its label.

As a defense against poisons: Borgnia et al. (arXiv 2011.09527).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.settings import Count
from fedlab.defenses.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Generator

    from fedlab.defenses.augmentation import PixelChange
    from fedlab.defenses.pipeline import ClientContext


class FlipCrop(Augmentation):
    """Flips images horizontally at random and crops them at a random place after black padding."""

    padding: Count = Field(default=4, ge=0)
    """Number of black pixels, at least 0, added on each side before the crop to image size."""
    flip: bool = True
    """True to mirror each image with probability 1/2."""

    colour: ClassVar[str] = "#88CCEE"

    def pixel_change(self, context: ClientContext, generator: Generator) -> PixelChange:
        """Create the change that flips and crops every image."""
        from attacks.poisoning.augment import crop_and_flip

        return lambda pixels: crop_and_flip(
            pixels, generator=generator, padding=self.padding, flip=self.flip
        )
