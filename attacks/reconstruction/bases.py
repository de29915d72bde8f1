"""The coordinates in which candidate images move: pixels, or the spectrum of natural images."""

import math
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Basis(Protocol):
    """An invertible linear map between coordinates and normalised pixels."""

    def decode(self, coordinates: Tensor) -> Tensor:
        """Pixels of the coordinates, both ``[n, channels, height, width]``."""

    def encode(self, images: Tensor) -> Tensor:
        """Coordinates of the pixels."""


class Pixels:
    """The pixels themselves."""

    def decode(self, coordinates: Tensor) -> Tensor:
        """The same tensor."""
        return coordinates

    def encode(self, images: Tensor) -> Tensor:
        """The same tensor."""
        return images


class Spectrum:
    """Cosine transform with amplitudes of natural images, in decorrelated colours.

    The amplitude of a natural image falls as one over the frequency (Field 1987), and its three
    colours vary mostly together (Ohta et al. 1980). In coordinates scaled by both, Adam's equal
    steps move coarse shapes by much and fine grain by little, so that an attack needs fewer
    iterations. Scaled so that a random unit step is a unit step of the pixels on average.

    Args:
        shape: Channels, height and width of an image.
        device: Where to compute.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        channels, height, width = shape
        self._rows = _cosines(height).to(device)
        self._columns = _cosines(width).to(device)
        self._colours = _colours(channels).to(device)
        down, across = torch.arange(height), torch.arange(width)
        frequency = torch.hypot(down[:, None] / height, across[None] / width)
        # The mean colour is as free as the coarsest wave, not infinitely free.
        falloff = 1 / frequency.clamp(min=1 / max(height, width))
        amplitude = falloff / falloff.square().mean().sqrt()
        self._amplitude = (_loudness(channels).view(-1, 1, 1) * amplitude).to(device)

    def decode(self, coordinates: Tensor) -> Tensor:
        """Pixels of the coordinates, both ``[n, channels, height, width]``."""
        planes = self._rows.T @ (coordinates * self._amplitude) @ self._columns
        images: Tensor = torch.einsum("kc,nkhw->nchw", self._colours, planes)
        return images

    def encode(self, images: Tensor) -> Tensor:
        """Coordinates of the pixels."""
        planes = torch.einsum("kc,nchw->nkhw", self._colours, images)
        coordinates: Tensor = (self._rows @ planes @ self._columns.T) / self._amplitude
        return coordinates


def basis_of(name: str, shape: tuple[int, int, int], device: torch.device) -> Basis:
    """The basis of an attack: ``pixels`` or ``spectrum``."""
    return Spectrum(shape, device) if name == "spectrum" else Pixels()


@lru_cache
def _cosines(size: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), one wave a row."""
    wave, place = torch.arange(size).unsqueeze(1), torch.arange(size).unsqueeze(0)
    waves = torch.cos(math.pi * (place + 0.5) * wave / size) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves


def _colours(channels: int) -> Tensor:
    """Brightness, red against blue, green against both; other images keep their channels."""
    if channels != 3:
        return torch.eye(channels)
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
    return functional.normalize(axes, dim=1)


def _loudness(channels: int) -> Tensor:
    """How much each axis of ``_colours`` varies beside the others, of root mean square near 1."""
    return torch.tensor([1.5, 0.5, 0.5]) if channels == 3 else torch.ones(channels)
