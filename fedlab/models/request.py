"""What every network is built from, and what a network has to offer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

Norm = Literal["group", "batch", "none"]
Shape = tuple[int, int, int]
"""Channels, height, width of an image."""


@dataclass(frozen=True)
class Request:
    """What a scenario says about its network, and what its images ask for.

    Attributes:
        shape: Channels, height, width of an image.
        classes: Outputs.
        width: Channels of the first layer (hidden units of an ``mlp``); ``None`` for the usual.
        norm: Normalisation; ``None`` for the usual.
        factory: ``package.module:function`` of the user's own network.
    """

    shape: Shape
    classes: int
    width: int | None = None
    norm: Norm | None = None
    factory: str | None = None


Builder = Callable[[Request], nn.Module]
"""Makes a network at random weights, drawn from PyTorch's global generator."""
