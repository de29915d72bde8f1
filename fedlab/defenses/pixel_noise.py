"""Independent noise on every pixel of a mixture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedlab.core.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


def add_noise(
    pixels: Tensor,
    kind: Literal["laplace", "gaussian"],
    *,
    scale: float,
    generator: Generator,
) -> Tensor:
    """The pixels plus noise, then clipped to [0, 1], which is post-processing.

    The noise itself is not clamped: bounded noise is no Laplace mechanism.

    Args:
        pixels: float32 in [0, 1].
        kind: Law of the noise.
        scale: Laplace scale or standard deviation, in units of the pixel range.
        generator: CPU generator.
    """
    if kind == "laplace":
        noise = laplace(pixels.shape, generator=generator)
    else:
        noise = torch.randn(pixels.shape, generator=generator)
    return torch.add(pixels, noise.to(pixels.device), alpha=scale).clamp_(0, 1)


def laplace(shape: torch.Size | tuple[int, ...], *, generator: Generator) -> Tensor:
    """Laplace noise of scale 1 by the inverse of its distribution function, never infinite.

    As all floating-point noise it lies on a grid. This one has 2^32 values, and ends where the true
    law has 2^-32 left, 22.2 scales from 0.

    Args:
        shape: Of the result.
        generator: CPU generator. It seeds NumPy's SFC64, since a number from PyTorch's Mersenne
            twister costs three times as much, and noise is most of what this defense costs.

    Returns:
        float32.
    """
    count = math.prod(shape)
    seed = int(torch.randint(2**62, (), generator=generator))
    bits = np.random.SFC64(seed).random_raw((count + 1) // 2)
    whole = torch.from_numpy(bits.view(np.int32)[:count])
    # From -1 to 1 by steps of 2^-31, as often above as below 0 and never 0 itself: the logarithm
    # is finite, and finest where the noise is largest.
    uniform = whole.float().add_(0.5).mul_(2**-31)
    return uniform.abs().log_().mul_(uniform.sign_()).view(shape)
