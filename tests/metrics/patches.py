"""Real images for the metrics: pieces of a photograph, and the same with noise."""

import torch
from torch import Tensor


def patches(photo: Tensor, side: int, channels: int) -> Tensor:
    """Six pieces ``[6, channels, side, side]``."""
    tiles = photo[:channels].unfold(1, side, side).unfold(2, side, side)
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)[60:66].contiguous()


def noisy(images: Tensor, scale: float) -> Tensor:
    """With Gaussian noise, in [0, 1]."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + scale * noise).clamp(0, 1)
