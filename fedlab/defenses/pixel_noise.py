"""Independent Laplace or Gaussian noise on every pixel of a mixture."""

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
    """Add noise to pixels and clip the sum to [0, 1], which is post-processing.

    The noise itself is not clipped, since bounded noise is no Laplace mechanism.

    Args:
        pixels: Pixels of any shape, float32 in [0, 1].
        kind: Distribution of the noise.
        scale: Laplace scale or Gaussian standard deviation, at least 0, for pixels in [0, 1].
        generator: CPU generator of the noise.

    Returns:
        New pixels of the same shape.
    """
    if kind == "laplace":
        noise = laplace(pixels.shape, generator=generator)
    else:
        noise = torch.randn(pixels.shape, generator=generator)
    return torch.add(pixels, noise.to(pixels.device), alpha=scale).clamp_(0, 1)


def laplace(shape: torch.Size | tuple[int, ...], *, generator: Generator) -> Tensor:
    """Draw Laplace noise of scale 1 by inversion of its distribution function; always finite.

    The noise lies on a grid of 2^32 values, as all floating-point noise lies on some grid. The grid
    ends 22.2 scales from 0, beyond which the exact distribution has a probability of 2^-32.

    Args:
        shape: Shape of the result.
        generator: CPU generator that seeds NumPy's SFC64. SFC64 takes a third of the time of
            PyTorch's Mersenne twister, and noise takes most of the time of DP-InstaHide.

    Returns:
        Noise, float32, of the given shape.
    """
    count = math.prod(shape)
    seed = int(torch.randint(2**62, (), generator=generator))
    bits = np.random.SFC64(seed).random_raw((count + 1) // 2)
    whole = torch.from_numpy(bits.view(np.int32)[:count])
    # The values go from -1 to 1 in steps of 2^-31, symmetric around 0 and never 0. So the logarithm
    # is finite, and its grid is finest where the noise is largest.
    uniform = whole.float().add_(0.5).mul_(2**-31)
    return uniform.abs().log_().mul_(uniform.sign_()).view(shape)
