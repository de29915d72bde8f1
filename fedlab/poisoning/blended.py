"""A faint noise pattern as a backdoor trigger (Chen et al., arXiv 1712.05526)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.poisoning.backdoor import BackdoorPoison

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Stream


class Blended(BackdoorPoison):
    """Blends a fixed noise pattern into some images and labels them as the target."""

    alpha: float = Field(default=0.2, gt=0, le=1)
    """Weight of the pattern, in (0, 1]; the image has the weight ``1 - alpha``."""

    def stamp(self, images: Tensor, common: Stream, *, client: int | None) -> Tensor:
        """Return the images with the pattern, which is the same for all clients and the test."""
        from attacks.poisoning.triggers import blend, noise_pattern  # imports torch

        pattern = noise_pattern(images.shape[1:], generator=common("blended pattern"))
        return blend(images, pattern=pattern.to(images.device), alpha=self.alpha)
