"""The images that an attack begins with, in normalised pixels."""

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 4
"""Side of the random tile of ``pattern``."""

Start = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""From a shape ``[n, channels, height, width]`` and a CPU generator to images."""


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent N(0, 1) pixels, the start of Geiping et al. 2020."""
    return torch.randn(shape, generator=generator)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent pixels in [-1, 1]."""
    return 2 * torch.rand(shape, generator=generator) - 1


def grey(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The mean colour everywhere, which is 0 in normalised pixels; every restart is the same."""
    return torch.zeros(shape)


def pattern(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A random 4x4 tile repeated over each image (Wei et al., arXiv 2004.10397)."""
    count, channels, height, width = shape
    tile = torch.randn(count, channels, TILE, TILE, generator=generator)
    return tile.repeat(1, 1, -(-height // TILE), -(-width // TILE))[..., :height, :width]


STARTS: dict[str, Start] = {
    "normal": normal,
    "uniform": uniform,
    "grey": grey,
    "pattern": pattern,
}
"""Starts by name."""
