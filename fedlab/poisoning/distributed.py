"""DBA: a backdoor trigger in four parts, spread over colluding clients (Xie et al., ICLR 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fedlab.poisoning.backdoor import BackdoorPoison

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Stream

PARTS = 4
"""Number of parts of the trigger."""


class Distributed(BackdoorPoison):
    """Each client stamps one of four white bars; the test images get all four."""

    parts: Literal["own", "all"] = "own"
    """``own``: the client stamps the bar numbered by its partition id modulo four. ``all``: it
    stamps all four bars, for comparison."""

    def stamp(self, images: Tensor, common: Stream, *, client: int | None) -> Tensor:
        """Return the images with the client's bar, or with all bars."""
        from attacks.poisoning.triggers import bars  # imports torch

        part = None if client is None or self.parts == "all" else client % PARTS
        return bars(images, part=part)
