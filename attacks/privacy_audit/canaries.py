"""Canaries: images made to stand out, and the coins that decide which of them are trained on.

Steinke, Nasr and Jagielski (arXiv 2305.08846), sections 5 and 6: the result of an audit
depends on how well a canary's gradient stands out from all others.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Canaries:
    """Images and labels that are in no real data set.

    Attributes:
        images: Canaries, uint8 ``[m, channels, height, width]``.
        labels: Class of each canary, int64 ``[m]``.
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)


def make_canaries(
    count: int, *, shape: tuple[int, int, int], classes: int, generator: torch.Generator
) -> Canaries:
    """Make images of black and white noise with random labels.

    Their gradients are large, so clipping gives all of them the same norm, and they are nearly
    orthogonal to each other and to those of real images. Those of mislabelled real images are not.

    Args:
        count: Number of canaries, at least 2.
        shape: Shape of an image as channels, height, width.
        classes: Number of classes; labels are drawn uniformly from 0 to ``classes - 1``.
        generator: CPU random generator.

    Raises:
        ValueError: If ``count`` is below 2.
    """
    if count < 2:
        raise ValueError(f"an audit needs at least 2 canaries, not {count}")
    images = 255 * torch.randint(2, (count, *shape), generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    return Canaries(images.to(torch.uint8), labels)


def toss(count: int, *, generator: torch.Generator) -> Tensor:
    """Toss a fair coin for each canary, bool ``[count]``: true for those that are included.

    The attacker may know everything about the canaries except this generator.
    """
    return torch.randint(2, (count,), generator=generator).bool()
