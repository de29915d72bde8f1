"""Distributions of the first images of an attack, in normalised pixels."""

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 4
"""Side of the random tile of ``pattern``, in pixels."""

Initialisation = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""Function from a shape ``[n, channels, height, width]`` and a CPU generator to images."""


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent N(0, 1) pixels, as in Geiping et al. 2020."""
    return torch.randn(shape, generator=generator)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent pixels, uniform in [-1, 1]."""
    return 2 * torch.rand(shape, generator=generator) - 1


def grey(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Zeros, which are the mean colour in normalised pixels; every restart starts the same."""
    return torch.zeros(shape)


def pattern(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A random 4x4 tile repeated over each image (Wei et al., arXiv 2004.10397)."""
    count, channels, height, width = shape
    tile = torch.randn(count, channels, TILE, TILE, generator=generator)
    return tile.repeat(1, 1, -(-height // TILE), -(-width // TILE))[..., :height, :width]
