"""What an attacker can guess who knows the class alone, such as the mean image of the class."""

import torch
from torch import Tensor

from fedlab.core.seeds import generator
from fedlab.metrics.images import as_pixels

# Number of images that are summed at a time for class means.
_CHUNK = 1024


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


def trivial_guesses(true: Tensor, others: Tensor, mean: Tensor, *, seed: int) -> Tensor:
    """Guesses at an image without an update: another image of its class, the mean, and noise.

    Args:
        true: float32 ``[channels, height, width]``, pixels in [0, 1].
        others: ``[m, channels, height, width]``, public images of its class, of which the nearest
            by squared error is taken; there may be none.
        mean: ``[channels, height, width]``, mean public image of the class.
        seed: Root seed of the noise, uniform in [0, 1].

    Returns:
        float32 ``[guesses, channels, height, width]``, two or three.
    """
    noise = torch.rand(true.shape, generator=generator(seed, "noise guess"))
    errors = (others - true).square().flatten(1).mean(1)
    nearest = others[errors.argsort(stable=True)[:1]]
    return torch.cat([nearest, torch.stack([mean.to(true), noise])])
