"""Structural similarity of images, and the windowed statistics that it is made of.

Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity" (IEEE TIP 13(4), 2004).
"""

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.metrics.images import comparable

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III-C
C1, C2 = 0.01**2, 0.03**2  # ibid., K1 = 0.01 and K2 = 0.03 at a dynamic range of 1


def ssim(truth: Tensor, guess: Tensor) -> Tensor:
    """Structural similarity of each image, averaged over windows and channels.

    With Gaussian-weighted means, variances and the covariance of a window::

        (2 mu_x mu_y + c1) (2 s_xy + c2) / ((mu_x^2 + mu_y^2 + c1) (s_x^2 + s_y^2 + c2))

    The window is 11 x 11 with sigma 1.5, placed only where it fits wholly. On images smaller than
    that (8 x 8 digits) it is the largest odd window that fits, with the same sigma; such values
    compare with each other, not with those of larger images.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        guess: The same shape; clamped to [0, 1].

    Returns:
        float64 ``[n]``, at most 1.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> image = torch.rand(1, 3, 32, 32)
        >>> ssim(image, image)
        tensor([1.], dtype=torch.float64)
    """
    luminance, contrast = similarity_maps(*comparable(truth, guess))
    return (luminance * contrast).flatten(1).mean(1)


def similarity_maps(truth: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM in every window, equations 6 and 9 to 10 of the paper.

    Args:
        truth: float64 ``[n, channels, height, width]``.
        guess: The same shape.

    Returns:
        Luminance, and contrast times structure, each float64 ``[n, channels, rows, columns]`` with
        a place for every window that fits; the latter is negative where images are anticorrelated.
    """
    size = min(WINDOW, *((side - 1) // 2 * 2 + 1 for side in truth.shape[2:]))
    places = torch.arange(size, dtype=truth.dtype, device=truth.device) - size // 2
    weights = torch.exp(-places.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()

    def mean(image: Tensor) -> Tensor:
        rows = functional.conv2d(image.flatten(0, 1).unsqueeze(1), weights.view(1, 1, 1, -1))
        both = functional.conv2d(rows, weights.view(1, 1, -1, 1))
        return both.view(*image.shape[:2], *both.shape[2:])

    mu_x, mu_y = mean(truth), mean(guess)
    variances = mean(truth.square()) - mu_x.square() + mean(guess.square()) - mu_y.square()
    covariance = mean(truth * guess) - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + C1) / (mu_x.square() + mu_y.square() + C1)
    contrast = (2 * covariance + C2) / (variances + C2)
    return luminance, contrast
