"""Backdoor triggers: visible changes of an image that make the model predict the target class.

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
    """Put a white square into a corner of each image.

    Args:
        images: Images, uint8 ``[n, channels, height, width]``.
        size: Side of the square in pixels.
        corner: Corner of the image in which the square is.

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
    """Blend a pattern into each image: x' = (1 - alpha) x + alpha pattern.

    Chen et al. train with alpha up to 0.2, and may use a stronger pattern at test time.

    Args:
        images: Images, uint8 ``[n, channels, height, width]``.
        pattern: Pattern from ``noise_pattern`` or elsewhere, uint8 ``[channels, height, width]``.
        alpha: Weight of the pattern, in (0, 1].

    Returns:
        New images of the same shape, rounded.

    Raises:
        ValueError: If the pattern has another shape than an image, or alpha is not in (0, 1].
    """
    if pattern.shape != images.shape[1:]:
        raise ValueError(
            f"a pattern of shape {tuple(pattern.shape)} does not fit images of "
            f"{tuple(images.shape[1:])}"
        )
    if not 0 < alpha <= 1:
        raise ValueError(f"the weight of a blended pattern is in (0, 1], not {alpha}")
    mixed = (1 - alpha) * images.float() + alpha * pattern.to(images.device).float()
    return mixed.round().clamp(0, 255).to(torch.uint8)


def noise_pattern(shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """Draw a pattern of independent uniform pixels, the random pattern of Chen et al.

    Args:
        shape: Channels, height and width.
        generator: CPU generator; the same seed gives the same pattern.

    Returns:
        The pattern, uint8 of that shape.
    """
    return torch.randint(256, tuple(shape), generator=generator, dtype=torch.uint8)


def sinusoid(images: Tensor, *, amplitude: float, frequency: float) -> Tensor:
    """Add amplitude * sin(2 pi j frequency / width) to column j of each image.

    Columns count from 0; all rows and channels get the same. Barni et al. train with an amplitude
    of 20/255 and a frequency of 6.

    Args:
        images: Images, uint8 ``[n, channels, height, width]``.
        amplitude: Amplitude of the wave, in (0, 1] where pixels are in [0, 1].
        frequency: Number of periods across the width of an image.

    Returns:
        New images of the same shape, rounded; no pixel changes by more than the amplitude.

    Raises:
        ValueError: If the amplitude is not in (0, 1], or the wave changes no pixel after rounding.
    """
    if not 0 < amplitude <= 1:
        raise ValueError(f"the amplitude of a sinusoid is in (0, 1], not {amplitude}")
    width = images.shape[-1]
    phase = 2 * math.pi * frequency / width * torch.arange(width, dtype=torch.float64)
    most = math.floor(255 * amplitude)  # rounding must not exceed the amplitude
    wave = (255 * amplitude * phase.sin()).round().clamp(-most, most).to(torch.int16)
    if not wave.any():
        raise ValueError(
            f"a sinusoid of amplitude {amplitude} and frequency {frequency} changes no pixel of "
            f"images that are {width} wide"
        )
    return (images.to(torch.int16) + wave.to(images.device)).clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class BarLayout:
    """Positions of the four bars of a distributed trigger, each one pixel high.

    Attributes:
        rows: Row of the upper and of the lower bars.
        columns: First column of the left and of the right bars.
        length: Length of a bar in pixels.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    length: int


# From the settings of the authors' code: 1 x 4 bars for MNIST, 1 x 6 for CIFAR-10.
NARROW_BARS = BarLayout(rows=(0, 3), columns=(0, 6), length=4)
WIDE_BARS = BarLayout(rows=(0, 4), columns=(0, 9), length=6)


def bars(images: Tensor, *, part: int | None = None, layout: BarLayout | None = None) -> Tensor:
    """Put white bars into the upper left of each image: the distributed trigger (DBA).

    Each of four attackers trains on one bar; the backdoor is tested with all of them.

    Args:
        images: Images, uint8 ``[n, channels, height, width]``.
        part: Number of the bar: 0 and 1 for the left and right bar of the upper row, 2 and 3 of the
            lower row; ``None`` for all four.
        layout: Positions of the bars; by default those of MNIST for images narrower than 32 pixels,
            and those of CIFAR-10 for others.

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
