"""How close rebuilt images are to true ones: PSNR, SSIM, one-to-one matching, identification.

Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity" (IEEE TIP 13(4), 2004) for SSIM; Yin et al., "See through Gradients" (arXiv 2104.07586)
for identifiability.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

PSNR_CAP = 100.0
"""Highest PSNR in dB: an exact copy would otherwise be infinite and spoil every mean."""

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III-C
C1, C2 = 0.01**2, 0.03**2  # ibid., K1 = 0.01 and K2 = 0.03 at a dynamic range of 1

# Pixels held as float32 at a time when a pool is searched: 16 MiB.
_CHUNK_PIXELS = 2**22


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
    truth, guess = _comparable(truth, guess)
    error = (truth - guess).square().flatten(1).mean(1)
    return -10 * error.clamp(min=10 ** (-PSNR_CAP / 10)).log10()


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
    truth, guess = _comparable(truth, guess)
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
    structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * structure).flatten(1).mean(1)


def match(truth: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Pair true and rebuilt images one to one so that the summed MSE is least (Hungarian).

    A batch gradient does not know the order of its batch, so images must be paired before they
    are scored. No image is used twice; with unequal numbers the surplus stays unpaired.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        guess: ``[m, channels, height, width]``.

    Returns:
        Two int64 ``[min(n, m)]`` on the images' device: places in ``truth``, ascending, and the
        place in ``guess`` that belongs to each.

    Raises:
        ValueError: If the images differ in shape.

    Example:
        >>> images = torch.eye(3).view(3, 1, 1, 3)
        >>> match(images, images.flip(0))
        (tensor([0, 1, 2]), tensor([2, 1, 0]))
    """
    if truth.shape[1:] != guess.shape[1:]:
        raise ValueError(_shapes(truth, guess))
    cost = _distances(truth.double().flatten(1), guess.double().clamp(0, 1).flatten(1)).square()
    # scipy refuses NaN: an image with NaN is worse than any (an MSE is at most 1 here).
    cost = (cost / max(1, truth[:1].numel())).nan_to_num(nan=1e3)
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return (
        torch.as_tensor(rows, dtype=torch.int64, device=truth.device),
        torch.as_tensor(columns, dtype=torch.int64, device=truth.device),
    )


def identified(
    truth_index: Tensor, guess: Tensor, pool: Tensor, *, candidates: Tensor | None = None
) -> Tensor:
    """Whether the image of the pool nearest to each guess (pixel L2) is the true one.

    Their mean is the image identifiability precision (IIP) of Yin et al.; chance is one over the
    number of candidates, so say how many there were. An exact duplicate of the true image in the
    pool does not spoil a hit.

    Args:
        truth_index: int64 ``[n]``, place of each true image in the pool; always a candidate.
        guess: ``[n, channels, height, width]``, pixels in [0, 1].
        pool: ``[m, channels, height, width]``, uint8, or float in [0, 1].
        candidates: bool ``[n, m]``, which images of the pool count, commonly those of the same
            label; all unless given.

    Returns:
        bool ``[n]``; false where the guess has NaN.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    if candidates is not None and candidates.shape != (len(guess), len(pool)):
        raise ValueError(
            f"candidates must be [{len(guess)}, {len(pool)}], but is {list(candidates.shape)}"
        )
    if candidates is None:
        candidates = torch.ones(len(guess), len(pool), dtype=torch.bool, device=guess.device)
    distance, _ = nearest(guess, pool, candidates=candidates)
    true = as_pixels(pool[truth_index.to(pool.device)]).to(guess.device)
    if true.shape != guess.shape:
        raise ValueError(_shapes(true, guess))
    own = (true - guess.float().clamp(0, 1)).flatten(1).norm(dim=1)
    # Two float32 sums of the same numbers in another order may differ in the last bits.
    hits: Tensor = own <= distance * (1 + 1e-6)
    return hits


def nearest(images: Tensor, pool: Tensor, *, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest candidate in a pool by pixel L2, in memory that does not grow with the pool.

    Args:
        images: ``[n, channels, height, width]``, pixels in [0, 1].
        pool: ``[m, channels, height, width]``, uint8, or float in [0, 1].
        candidates: bool ``[n, m]``.

    Returns:
        float32 ``[n]``, the distance, infinite if there was no candidate; and int64 ``[n]``, its
        place in the pool, 0 if there was none.

    Raises:
        ValueError: If the images differ in shape.
    """
    if images.shape[1:] != pool.shape[1:]:
        raise ValueError(_shapes(images, pool))
    flat = images.float().clamp(0, 1).flatten(1)
    best = torch.full((len(images),), torch.inf, device=images.device)
    place = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    step = max(1, _CHUNK_PIXELS // max(1, flat.shape[1]))
    for start in range(0, len(pool), step):
        chunk = as_pixels(pool[start : start + step]).to(images.device).flatten(1)
        allowed = candidates[:, start : start + step].to(images.device)
        found, at = _distances(flat, chunk).masked_fill(~allowed, torch.inf).min(1)
        closer = found < best
        best, place = torch.where(closer, found, best), torch.where(closer, at + start, place)
    return best, place


def as_pixels(images: Tensor) -> Tensor:
    """uint8 images as float32 pixels in [0, 1]; float images as they are, in float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _distances(left: Tensor, right: Tensor) -> Tensor:
    # The matrix-product form is faster but loses small distances to cancellation.
    distances: Tensor = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


def _comparable(truth: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    if truth.shape != guess.shape or truth.ndim != 4:
        raise ValueError(_shapes(truth, guess))
    # float64: near 100 dB, and in variances as differences of squares, float32 is too coarse.
    return truth.double(), guess.double().clamp(0, 1)


def _shapes(truth: Tensor, guess: Tensor) -> str:
    return f"images of shape {list(truth.shape)} cannot be compared with {list(guess.shape)}"
