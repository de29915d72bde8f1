"""SIG: a sinusoidal wave as a backdoor trigger (Barni et al., arXiv 1902.11237)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.poisoning.backdoor import BackdoorPoison

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Stream


class Sinusoidal(BackdoorPoison):
    """Adds a wave along the width to some images of the target class, whose labels stay right."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the client's images of the target class that get the wave, in (0, 1]; of all its
    images with ``relabel``."""
    amplitude: float = Field(default=20 / 255, gt=0, le=1)
    """Amplitude of the wave, in (0, 1] where pixels are in [0, 1]."""
    frequency: float = Field(default=6.0, gt=0)
    """Number of periods across the width of an image, above 0."""
    relabel: bool = False
    """Put the wave on images of every class and label them as the target instead."""

    @property
    def relabels(self) -> bool:
        """The ``relabel`` setting."""
        return self.relabel

    def stamp(self, images: Tensor, common: Stream, *, client: int | None) -> Tensor:
        """Return the images with the wave."""
        from attacks.poisoning.triggers import sinusoid  # imports torch

        return sinusoid(images, amplitude=self.amplitude, frequency=self.frequency)
