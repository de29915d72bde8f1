"""Ceilings on the PSNR of reconstructions, for an attacker whose prior is a set of images.

The true image is each of N known images with equal probability. Whatever ball of images a guess is
close to lies in a ball of twice the radius around any image in it, so without a release a guess
reaches a PSNR of p with probability at most::

    kappa(p) = max over i of  (1/N) #{j: PSNR(x_i, x_j) >= p - 20 log10(2)}        (i counts itself)
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlab.privacy.ceiling import ceilings
from fedlab.privacy.release import History

HIGHEST = 60.0
"""PSNR in dB above which a reconstruction counts as this much, so that means have a bound."""

DOUBLED = 20 * math.log10(2)
"""PSNR in dB that twice the distance costs."""

Floats = npt.NDArray[np.float64]


def levels_of(images: Tensor) -> Floats:
    """Compute up to which PSNR a guess may be close to 1, 2, ..., N images of a prior at once.

    Args:
        images: The prior, float ``[N, channels, height, width]``, pixels in [0, 1].

    Returns:
        PSNR in dB, float64 ``[N]``, descending, at most ``HIGHEST``.

    Raises:
        ValueError: If there is no image.
    """
    if not len(images):
        raise ValueError("a prior needs at least one image")
    flat = images.double().flatten(1)
    error = torch.cdist(flat, flat).square() / flat.shape[1]
    nearest = error.sort(1).values.amin(0).clamp(min=10 ** (-HIGHEST / 10)).numpy()
    levels = np.minimum(DOUBLED - 10 * np.log10(nearest), HIGHEST)
    levels[0] = HIGHEST  # a guess may be any image itself
    return np.asarray(levels, dtype=float)


def chance_of_psnr(levels: Floats, psnr: float) -> float:
    """Bound the probability that a guess without any release reaches a PSNR.

    Args:
        levels: Result of ``levels_of``.
        psnr: PSNR in dB, at most ``HIGHEST``.

    Returns:
        The bound kappa, from 1/N to 1.
    """
    return max(1, int((levels >= psnr).sum())) / len(levels)


def mean_psnr_ceiling(
    history: History, levels: Floats, *, guesses: int = 1, labels_public: bool = False
) -> float:
    """Compute the largest mean PSNR of any attack on a client's releases.

    With the ceiling gamma of ``fedlab.privacy.ceiling`` and the largest p0 with kappa(p0) = 1::

        E[min(PSNR, P)] <= p0 + integral from p0 to P of gamma(kappa(p)) dp,        P = HIGHEST

    Args:
        history: Privacy history of the client, up to everything that the attacker may have seen.
        levels: Result of ``levels_of`` for the attacker's prior.
        guesses: Number of reconstructed images of which the closest counts, at least 1.
        labels_public: See ``fedlab.privacy.ceiling``.

    Returns:
        Mean PSNR in dB; ``HIGHEST`` if nothing is certified.
    """
    count = len(levels)
    chances = np.minimum(1.0, guesses * np.arange(1, count) / count)
    gamma = ceilings(history, chances, labels_public=labels_public)
    return float(levels[-1] + (gamma * -np.diff(levels)).sum())
