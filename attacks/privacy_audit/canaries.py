"""Images made to be noticed, and the fair coins that decide which of them a client trains on.

Steinke, Nasr and Jagielski (arXiv 2305.08846), sections 5 and 6: what an audit can show depends on
how well a canary's gradient stands out from all others.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Canaries:
    """Images with labels that no real data set holds.

    Attributes:
        images: uint8 ``[m, channels, height, width]``.
        labels: int64 ``[m]``.
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)


def make_canaries(
    count: int, *, shape: tuple[int, int, int], classes: int, generator: torch.Generator
) -> Canaries:
    """Images of black and white noise, pixel by pixel, with random labels.

    Their gradients are large, so that clipping leaves all at the same norm, and nearly at right
    angles to each other and to those of real images; of wrongly labelled real images they are not.

    Args:
        count: How many, at least 2.
        shape: Channels, height, width.
        classes: Labels are drawn evenly from 0 to ``classes`` - 1.
        generator: CPU generator.

    Raises:
        ValueError: If there are fewer than 2.
    """
    if count < 2:
        raise ValueError(f"an audit needs at least 2 canaries, not {count}")
    images = 255 * torch.randint(2, (count, *shape), generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    return Canaries(images.to(torch.uint8), labels)


def toss(count: int, *, generator: torch.Generator) -> Tensor:
    """A fair coin for each canary: bool ``[count]``, true for those that are included.

    The generator must not be one that the attack can know, as all else about the canaries may be.
    """
    return torch.randint(2, (count,), generator=generator).bool()
