"""Multi-scale structural similarity.

Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment"
(Asilomar Conference on Signals, Systems and Computers, 2003).
"""

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.metrics.images import comparable
from fedlab.metrics.similarity import WINDOW, similarity_maps

# Wang et al. 2003, section 3.2, from the finest scale to the coarsest.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponent of each scale when all five fit."""


def scales(height: int, width: int) -> int:
    """Number of the five scales that fit an image, at least one.

    A scale fits if its window of 11 x 11 pixels does.

    Example:
        >>> scales(32, 32), scales(64, 64), scales(224, 224), scales(8, 8)
        (2, 3, 5, 1)
    """
    side, count = min(height, width), 1
    while count < len(WEIGHTS) and (side := -(-side // 2)) >= WINDOW:
        count += 1
    return count


def ms_ssim(truth: Tensor, guess: Tensor) -> Tensor:
    """Multi-scale structural similarity of each image.

    The product over scales of contrast times structure, and of the whole SSIM at the coarsest
    scale, each averaged over its windows and raised to its weight (eq. 7 of the paper)::

        prod_{j < M} mean(cs_j)^w_j  *  mean(l_M cs_M)^w_M

    for each channel, then averaged over channels. The next scale is the mean of 2 x 2 pixels; an
    odd last row or column is averaged alone.

    All five scales need sides of 161 pixels or more. Smaller images use as many scales as fit, with
    the first weights divided by their sum: two at 28 and 32 pixels, three at 64, and one at 8,
    which is SSIM. Values with different numbers of scales are not comparable.

    A negative mean, as for anticorrelated images, has no real power and counts as 0.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        guess: The same shape; clamped to [0, 1].

    Returns:
        float64 ``[n]`` in [0, 1]; NaN only where the guess has NaN.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> image = torch.rand(1, 3, 32, 32)
        >>> ms_ssim(image, image)
        tensor([1.], dtype=torch.float64)
    """
    truth, guess = comparable(truth, guess)
    count = scales(*truth.shape[2:])
    product = torch.ones(truth.shape[:2], dtype=truth.dtype, device=truth.device)
    for scale, weight in enumerate(WEIGHTS[:count], start=1):
        luminance, contrast = similarity_maps(truth, guess)
        windows = contrast if scale < count else luminance * contrast
        product *= windows.mean((2, 3)).clamp(min=0) ** (weight / sum(WEIGHTS[:count]))
        truth, guess = (functional.avg_pool2d(x, 2, ceil_mode=True) for x in (truth, guess))
    return product.mean(1)
