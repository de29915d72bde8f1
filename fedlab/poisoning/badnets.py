"""BadNets: a white square as a backdoor trigger (Gu et al., arXiv 1708.06733)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fedlab.core.settings import Count
from fedlab.poisoning.backdoor import BackdoorPoison

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Stream


class BadNets(BackdoorPoison):
    """Stamps a white square into a corner of some images and labels them as the target."""

    size: Count = Field(default=3, ge=1)
    """Side of the square in pixels, at least 1."""
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "bottom-right"
    """Corner of the image in which the square is."""

    def stamp(self, images: Tensor, common: Stream, *, client: int | None) -> Tensor:
        """Return the images with the square."""
        from attacks.poisoning.triggers import stamp  # imports torch

        return stamp(images, size=self.size, corner=self.corner)
