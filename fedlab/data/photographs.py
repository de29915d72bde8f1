"""Crops of the two photographs that ship inside scikit-learn, as images that anybody has."""

from functools import cache

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn.functional import interpolate

LARGEST = 256
"""Largest side of a crop in pixels, before it is scaled to the side of an image."""


def photograph_crops(shape: tuple[int, int, int], count: int, generator: torch.Generator) -> Tensor:
    """Cut random squares out of two photographs and scale them.

    They have the smoothness and the edges of natural images, and show nothing of a client's.

    Args:
        shape: Channels, height and width of an image; a number of channels other than 3 repeats
            the mean of the colours.
        count: Number of images.
        generator: CPU generator of the places and sizes.

    Returns:
        float32 ``[count, channels, height, width]``, pixels in [0, 1].
    """
    channels, height, width = shape
    crops = []
    for _ in range(count):
        photograph = _photographs()[int(torch.randint(2, (), generator=generator))]
        smallest = min(max(height, width), LARGEST)
        side = int(torch.randint(smallest, LARGEST + 1, (), generator=generator))
        top, left = (
            int(torch.randint(length - side + 1, (), generator=generator))
            for length in photograph.shape[1:]
        )
        crop = photograph[:, top : top + side, left : left + side].unsqueeze(0)
        crops.append(
            interpolate(crop, size=(height, width), mode="bilinear", antialias=True).clamp(0, 1)
        )
    images = torch.cat(crops)
    return images if channels == 3 else images.mean(1, keepdim=True).expand(-1, channels, -1, -1)


@cache
def _photographs() -> list[Tensor]:
    """Float32 ``[3, 427, 640]`` each, pixels in [0, 1]."""
    return [
        torch.tensor(each).permute(2, 0, 1).float().div(255) for each in load_sample_images().images
    ]
