"""Similarity of reconstructed to true images: PSNR, one-to-one matching, identification.

Identification follows Yin et al., "See through Gradients" (arXiv 2104.07586).
"""

from collections.abc import Iterator

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

PSNR_CAP = 100.0
"""Highest PSNR in dB. An exact copy would otherwise have an infinite value and so every mean."""

# Number of pixels that are float32 at a time when a pool is searched: 16 MiB.
_CHUNK_PIXELS = 2**22

# Two float32 sums of the same numbers in another order may differ by this share.
_SAME = 1e-6


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
    """Test whether the image of the pool nearest to each guess (pixel L2) is the true one.

    The mean is the image identifiability precision (IIP) of Yin et al. Chance level is one over the
    number of candidates, so state that number. An exact duplicate of the true image in the pool
    counts as a hit.

    Args:
        truth_index: int64 ``[n]``, index of each true image in the pool; always a candidate.
        guess: ``[n, channels, height, width]``, pixels in [0, 1].
        pool: ``[m, channels, height, width]``, uint8, or float in [0, 1].
        candidates: bool ``[n, m]``, images of the pool that count, usually those with the same
            label; all by default.

    Returns:
        bool ``[n]``; false where the guess has NaN.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    candidates = _candidates(guess, pool, candidates)
    distance, _ = nearest(guess, pool, candidates=candidates)
    own = _own_distance(truth_index, guess, pool)
    hits: Tensor = own <= distance * (1 + _SAME)
    return hits


def identification_auc(
    truth_index: Tensor, guess: Tensor, pool: Tensor, *, candidates: Tensor | None = None
) -> Tensor:
    """Share of the other images of the pool that are farther (pixel L2) from a guess than its own.

    The rank of the true image, scaled so that 1 is the first place, 0 the last and 0.5 chance,
    whatever the size of the pool. Their mean is the area under the ROC curve of telling true images
    from others by their distance, each guess with a threshold of its own. Images just as far,
    such as duplicates of the true one, count half.

    Args:
        truth_index: int64 ``[n]``, index of each true image in the pool.
        guess: ``[n, channels, height, width]``, pixels in [0, 1].
        pool: ``[m, channels, height, width]``, uint8, or float in [0, 1].
        candidates: bool ``[n, m]``, images of the pool that count, usually those with the same
            label; all by default.

    Returns:
        float64 ``[n]``; 0 where the guess has NaN, NaN where there is no other candidate.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        >>> pool = torch.tensor([0.0, 0.2, 0.5, 0.6, 1.0]).view(5, 1, 1, 1)
        >>> identification_auc(torch.tensor([1]), torch.full((1, 1, 1, 1), 0.45), pool)
        tensor([0.5000], dtype=torch.float64)
    """
    others = _candidates(guess, pool, candidates).clone()
    others[torch.arange(len(guess)), truth_index.to(others.device)] = False
    own = _own_distance(truth_index, guess, pool).unsqueeze(1)
    won = torch.zeros(len(guess), dtype=torch.float64, device=guess.device)
    for start, distance in _pool_distances(guess, pool):
        allowed = others[:, start : start + distance.shape[1]].to(guess.device)
        points = (distance >= own * (1 - _SAME)).double() + (distance > own * (1 + _SAME)).double()
        won += (points / 2 * allowed).sum(1)
    return won / others.sum(1).to(guess.device)


def nearest(images: Tensor, pool: Tensor, *, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest candidate in a pool by pixel L2, in memory that does not grow with the pool.

    Args:
        images: ``[n, channels, height, width]``, pixels in [0, 1].
        pool: ``[m, channels, height, width]``, uint8, or float in [0, 1].
        candidates: bool ``[n, m]``, images of the pool that count.

    Returns:
        float32 ``[n]``, distance, infinite without a candidate; and int64 ``[n]``, index in the
        pool, 0 without a candidate.

    Raises:
        ValueError: If the images differ in shape.
    """
    best = torch.full((len(images),), torch.inf, device=images.device)
    place = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for start, distance in _pool_distances(images, pool):
        allowed = candidates[:, start : start + distance.shape[1]].to(images.device)
        found, at = distance.masked_fill(~allowed, torch.inf).min(1)
        closer = found < best
        best, place = torch.where(closer, found, best), torch.where(closer, at + start, place)
    return best, place


def as_pixels(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 pixels in [0, 1], and float images to float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def comparable(truth: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Convert both batches to float64, and clamp the guess to [0, 1].

    Raises:
        ValueError: If the shapes differ, or are not those of batches of images.
    """
    if truth.shape != guess.shape or truth.ndim != 4:
        raise ValueError(_shapes(truth, guess))
    # float32 is too coarse near 100 dB and for variances as differences of squares.
    return truth.double(), guess.double().clamp(0, 1)


def _candidates(guess: Tensor, pool: Tensor, candidates: Tensor | None) -> Tensor:
    if candidates is None:
        return torch.ones(len(guess), len(pool), dtype=torch.bool, device=guess.device)
    if candidates.shape != (len(guess), len(pool)):
        raise ValueError(
            f"candidates must be [{len(guess)}, {len(pool)}], but is {list(candidates.shape)}"
        )
    return candidates


def _own_distance(truth_index: Tensor, guess: Tensor, pool: Tensor) -> Tensor:
    """Distance of each guess to its true image, float32 ``[n]``."""
    true = as_pixels(pool[truth_index.to(pool.device)]).to(guess.device)
    if true.shape != guess.shape:
        raise ValueError(_shapes(true, guess))
    distance: Tensor = (true - guess.float().clamp(0, 1)).flatten(1).norm(dim=1)
    return distance


def _pool_distances(images: Tensor, pool: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Distances to one part of the pool at a time: its first index, and float32 ``[n, part]``."""
    if images.shape[1:] != pool.shape[1:]:
        raise ValueError(_shapes(images, pool))
    flat = images.float().clamp(0, 1).flatten(1)
    step = max(1, _CHUNK_PIXELS // max(1, flat.shape[1]))
    for start in range(0, len(pool), step):
        chunk = as_pixels(pool[start : start + step]).to(images.device).flatten(1)
        yield start, _distances(flat, chunk)


def _distances(left: Tensor, right: Tensor) -> Tensor:
    # The matrix-product form is faster but loses small distances to cancellation.
    distances: Tensor = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
    return distances


def _shapes(truth: Tensor, guess: Tensor) -> str:
    return f"images of shape {list(truth.shape)} cannot be compared with {list(guess.shape)}"
