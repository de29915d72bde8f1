"""Chance baselines: scores of guesses that use no update.

The guesses are mid-grey, the class mean and the nearest other image. A PSNR alone says little,
since a blurred class mean may reach 15 dB on digits; a reconstruction has to exceed the best guess.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedlab.metrics.images import as_pixels, nearest, psnr

# Number of images that are summed at a time for class means.
_CHUNK = 1024


@dataclass(frozen=True)
class ChanceBaselines:
    """PSNR in dB of three trivial guesses, for each of n true images.

    Attributes:
        grey: float64 ``[n]``, PSNR of an image of 0.5 everywhere.
        class_mean: float64 ``[n]``, PSNR of the mean public image of the true class; NaN without
            public images.
        nearest_other: float64 ``[n]``, PSNR of the nearest other image of the pool; minus infinity
            where the pool has no other.
    """

    grey: Tensor
    class_mean: Tensor
    nearest_other: Tensor

    @property
    def best(self) -> Tensor:
        """float64 ``[n]``, the highest of the three, without those that are NaN."""
        guesses = torch.stack([self.grey, self.class_mean, self.nearest_other])
        return guesses.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(0)


def baselines(
    truth: Tensor,
    labels: Tensor,
    *,
    reference_images: Tensor,
    reference_labels: Tensor,
    pool: Tensor,
    own: Tensor | None,
) -> ChanceBaselines:
    """Score the trivial guesses at each true image.

    Memory stays small for any number of reference and pool images.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        labels: int64 ``[n]``; or float ``[n, classes]`` for mixed images, whose guess is the class
            means mixed alike.
        reference_images: uint8 or float, images that the attacker may hold: the public test set.
        reference_labels: int64, their labels.
        pool: uint8 or float, where the nearest other image is looked for, such as the client's
            shard.
        own: int64 ``[n]``, place of each true image in the pool, which alone is left out: an exact
            duplicate of it counts as another image. ``None`` if the pool holds none of them.

    Raises:
        ValueError: If there is no reference image, or shapes do not fit each other.
    """
    candidates = torch.ones(len(truth), len(pool), dtype=torch.bool, device=truth.device)
    if own is not None:
        candidates[torch.arange(len(truth), device=truth.device), own.to(truth.device)] = False
    classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1 if len(labels) else 1
    means = class_means(reference_images, reference_labels, classes=classes).to(truth.device)
    if labels.ndim == 2:
        # Shares and not weights: label rows may be normalised differently from pixels.
        shares = labels.to(truth.device).float() / labels.to(truth.device).float().sum(1, True)
        guesses = torch.einsum("nc,c...->n...", shares, means)
    else:
        guesses = means[labels.to(truth.device)]
    distance, place = nearest(truth, pool, candidates=candidates)
    others = torch.full((len(truth),), -torch.inf, dtype=torch.float64, device=truth.device)
    if len(pool):
        found = as_pixels(pool[place.to(pool.device)]).to(truth.device)
        others = torch.where(distance.isfinite(), psnr(truth, found), others)
    return ChanceBaselines(
        grey=psnr(truth, torch.full_like(truth, 0.5)),
        class_mean=psnr(truth, guesses),
        nearest_other=others,
    )


def class_means(images: Tensor, labels: Tensor, *, classes: int) -> Tensor:
    """The mean image of each class.

    Args:
        images: ``[m, channels, height, width]``, uint8, or float in [0, 1].
        labels: int64 ``[m]``; those of ``classes`` and above count for the overall mean only.
        classes: Number of class means.

    Returns:
        float32 ``[classes, channels, height, width]`` in [0, 1]; the mean of all images for a class
        without any.

    Raises:
        ValueError: If there is no image.
    """
    if not len(images):
        raise ValueError("class means need at least one reference image")
    sums = torch.zeros(classes, *images.shape[1:], dtype=torch.float64, device=images.device)
    whole = torch.zeros_like(sums[:1])
    counts = torch.zeros(classes, dtype=torch.float64, device=images.device)
    for start in range(0, len(images), _CHUNK):
        pixels = as_pixels(images[start : start + _CHUNK]).double()
        whole += pixels.sum(0)
        places = labels[start : start + _CHUNK].to(images.device)
        inside = places < classes
        sums.index_add_(0, places[inside], pixels[inside])
        counts += torch.bincount(places[inside], minlength=classes)
    empty = counts == 0
    means = sums / counts.clamp(min=1).view(-1, *[1] * (images.ndim - 1))
    means[empty] = whole / len(images)
    return means.float()
