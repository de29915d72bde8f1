"""A network, a data set and a partition."""

import torch
from torch import nn

from fedlab.data import ImageData


def linear(shape, classes):
    """One linear layer."""
    channels, height, width = shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))


def stripes():
    """Noisy images of 8x8 pixels with a bright row for each of four classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % 4
    pixels = torch.randint(96, (160, 1, 8, 8), generator=generator)
    pixels[torch.arange(160), 0, 2 * labels] += 128
    images = pixels.to(torch.uint8)
    classes = ("first", "second", "third", "fourth")
    return ImageData(
        "stripes", images[:120], labels[:120], images[120:], labels[120:], classes, (0.2,), (0.2,)
    )


def blocks(labels, clients, settings, generator):
    """Consecutive images for each client."""
    return torch.arange(len(labels)).tensor_split(clients)
