"""PSNR, and one-to-one matching of reconstructed to true images."""

import scipy
import torch
from torch import Tensor

PSNR_CAP = 100.0
"""Highest PSNR in dB. An exact copy would otherwise have an infinite value and so every mean."""


def psnr(truth: Tensor, guess: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, ``10 log10(1 / MSE)``.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        guess: The same shape; clamped to [0, 1].

    Returns:
        float64 ``[n]`` in dB, at most ``PSNR_CAP``; NaN where the guess has NaN.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> psnr(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.1)).round(decimals=3)
        tensor([20.], dtype=torch.float64)
    """
    truth, guess = comparable(truth, guess)
    error = (truth - guess).square().flatten(1).mean(1)
    return -10 * error.clamp(min=10 ** (-PSNR_CAP / 10)).log10()


def match(truth: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Pair true and rebuilt images one to one so that the summed MSE is least (Hungarian).

    A batch gradient does not contain the order of its batch, so images must be paired before they
    are scored. No image is used twice; with unequal numbers some stay unpaired.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        guess: ``[m, channels, height, width]``.

    Returns:
        Two int64 ``[min(n, m)]`` on the images' device: indices in ``truth``, ascending, and the
        index in ``guess`` that belongs to each.

    Raises:
        ValueError: If the images differ in shape.

    Example:
        >>> images = torch.eye(3).view(3, 1, 1, 3)
        >>> match(images, images.flip(0))
        (tensor([0, 1, 2]), tensor([2, 1, 0]))
    """
    if truth.shape[1:] != guess.shape[1:]:
        raise ValueError(mismatch(truth, guess))
    cost = _distances(truth.double().flatten(1), guess.double().clamp(0, 1).flatten(1)).square()
    # scipy refuses NaN: an image with NaN is worse than any (an MSE is at most 1 here).
    return assign((cost / max(1, truth[:1].numel())).nan_to_num(nan=1e3))


def assign(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Pair rows and columns one to one so that the summed cost is least.

    Args:
        cost: float ``[n, m]`` without NaN.

    Returns:
        Two int64 ``[min(n, m)]``: rows, ascending, and the column that belongs to each.
    """
    rows, columns = scipy.optimize.linear_sum_assignment(cost.cpu().numpy())
    return (
        torch.as_tensor(rows, dtype=torch.int64, device=cost.device),
        torch.as_tensor(columns, dtype=torch.int64, device=cost.device),
    )


def as_pixels(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 pixels in [0, 1], and float images to float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def comparable(truth: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Convert both batches to float64, and clamp the guess to [0, 1].

    Raises:
        ValueError: If the shapes differ, or are not those of batches of images.
    """
    if truth.shape != guess.shape or truth.ndim != 4:
        raise ValueError(mismatch(truth, guess))
    # float32 is too coarse near 100 dB and for variances as differences of squares.
    return truth.double(), guess.double().clamp(0, 1)


def _distances(left: Tensor, right: Tensor) -> Tensor:
    # The matrix-product form is faster but loses small distances to cancellation.
    distances: Tensor = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


def mismatch(truth: Tensor, guess: Tensor) -> str:
    """Sentence about images whose shapes differ."""
    return f"images of shape {list(truth.shape)} cannot be compared with {list(guess.shape)}"
