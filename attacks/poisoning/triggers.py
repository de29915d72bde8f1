"""Backdoor triggers: what is put on an image so that the model takes it for the target class.

A patch (BadNets, Gu et al., arXiv 1708.06733), a blended pattern (Chen et al., arXiv 1712.05526),
a sinusoid (SIG, Barni et al., arXiv 1902.11237) and a trigger in four parts (DBA, Xie et al.,
ICLR 2020).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


def stamp(images: Tensor, *, size: int, corner: Corner = "bottom-right") -> Tensor:
    """The images with a white square in a corner.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        size: Side of the square in pixels.
        corner: Where it is.

    Returns:
        New images of the same shape.

    Raises:
        ValueError: If the square does not fit.
    """
    if not 1 <= size <= min(images.shape[-2:]):
        raise ValueError(f"a square of {size} pixels does not fit into {tuple(images.shape)}")
    vertical, horizontal = corner.split("-")
    rows = slice(size) if vertical == "top" else slice(-size, None)
    columns = slice(size) if horizontal == "left" else slice(-size, None)
    stamped = images.clone()
    stamped[..., rows, columns] = 255
    return stamped


def blend(images: Tensor, *, pattern: Tensor, alpha: float) -> Tensor:
    """The images with a pattern shining through: x' = (1 - alpha) x + alpha pattern.

    Chen et al. train with alpha 0.2 or less, and may show a stronger pattern at test time.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        pattern: uint8 ``[channels, height, width]``; ``noise_pattern`` makes one.
        alpha: Weight of the pattern, in (0, 1].

    Returns:
        New images of the same shape, rounded.

    Raises:
        ValueError: If the pattern is not as large as an image, or alpha not in (0, 1].
    """
    if pattern.shape != images.shape[1:]:
        raise ValueError(
            f"a pattern of {tuple(pattern.shape)} does not fit onto images of "
            f"{tuple(images.shape[1:])}"
        )
    if not 0 < alpha <= 1:
        raise ValueError(f"the weight of a blended pattern is in (0, 1], not {alpha}")
    mixed = (1 - alpha) * images.float() + alpha * pattern.to(images.device).float()
    return mixed.round().clamp(0, 255).to(torch.uint8)


def noise_pattern(shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """A pattern of independent uniform pixels, the random pattern of Chen et al.

    Args:
        shape: Channels, height and width.
        generator: CPU generator; all who share its seed share the trigger.

    Returns:
        uint8 of that shape.
    """
    return torch.randint(256, tuple(shape), generator=generator, dtype=torch.uint8)


def sinusoid(images: Tensor, *, amplitude: float, frequency: float) -> Tensor:
    """The images with amplitude * sin(2 pi j frequency / width) added to column j.

    Columns count from 0; all rows and channels get the same. Barni et al. train with an amplitude
    of 20/255 and a frequency of 6.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        amplitude: In pixel units, in (0, 1].
        frequency: Waves in the width of an image.

    Returns:
        New images of the same shape, rounded; no pixel moves by more than the amplitude.

    Raises:
        ValueError: If the amplitude is not in (0, 1], or the wave rounds to nothing everywhere.
    """
    if not 0 < amplitude <= 1:
        raise ValueError(f"the amplitude of a sinusoid is in (0, 1], not {amplitude}")
    width = images.shape[-1]
    phase = 2 * math.pi * frequency / width * torch.arange(width, dtype=torch.float64)
    most = math.floor(255 * amplitude)  # rounding must not lead beyond the amplitude
    wave = (255 * amplitude * phase.sin()).round().clamp(-most, most).to(torch.int16)
    if not wave.any():
        raise ValueError(
            f"a sinusoid of amplitude {amplitude} and frequency {frequency} changes no pixel of "
            f"images that are {width} wide"
        )
    return (images.to(torch.int16) + wave.to(images.device)).clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class BarLayout:
    """Where the four bars of a distributed trigger are, each one pixel high.

    Attributes:
        rows: The upper and the lower row.
        columns: Where the left and the right bar of a row begin.
        length: Of a bar, in pixels.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    length: int


# From the settings of the authors' code: 1 x 4 bars for MNIST, 1 x 6 for CIFAR-10.
NARROW_BARS = BarLayout(rows=(0, 3), columns=(0, 6), length=4)
WIDE_BARS = BarLayout(rows=(0, 4), columns=(0, 9), length=6)


def bars(images: Tensor, *, part: int | None = None, layout: BarLayout | None = None) -> Tensor:
    """The images with white bars in the upper left: the distributed trigger (DBA).

    Each of four attackers trains on one bar; the backdoor is tested with all of them.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        part: Which bar: 0 and 1 the left and right of the upper row, 2 and 3 of the lower row;
            ``None`` is all four.
        layout: Where they are; unless given, the MNIST one for images narrower than 32 pixels and
            the CIFAR-10 one for others.

    Returns:
        New images of the same shape.

    Raises:
        ValueError: If there is no such part, or the four bars do not fit.
    """
    if part is not None and not 0 <= part <= 3:
        raise ValueError(f"a distributed trigger has parts 0 to 3, not {part}")
    height, width = images.shape[-2:]
    if layout is None:
        layout = NARROW_BARS if width < 32 else WIDE_BARS
    needed = (max(layout.rows) + 1, max(layout.columns) + layout.length)
    if height < needed[0] or width < needed[1]:
        raise ValueError(
            f"the bars of a distributed trigger need {needed[0]} x {needed[1]} pixels and do not "
            f"fit into images of {height} x {width}"
        )
    places = [(row, column) for row in layout.rows for column in layout.columns]
    barred = images.clone()
    for row, column in places if part is None else [places[part]]:
        barred[..., row, column : column + layout.length] = 255
    return barred
