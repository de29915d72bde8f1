"""Seeded synthetic images of any size, for benchmarks that need more images than digits has.

Each class has its own random pattern, so that a network learns them and no gradient vanishes.
"""

from functools import partial

import torch

from fedlab.core.seeds import generator
from fedlab.data.images import CENTRED, ImageData

CLASSES = 10
NOISE = 60.0
"""Standard deviation of what tells two images of a class apart, in grey levels of 255."""


def made_up(*, train: int, test: int, side: int) -> ImageData:
    """Synthetic grey images of ten classes, the same at every call.

    Args:
        train: Number of training images.
        test: Number of test images.
        side: Height and width of an image in pixels.
    """
    draws = generator(0, "made-up images", train, test, side)
    patterns = 255 * torch.rand(CLASSES, 1, side, side, generator=draws)
    labels = torch.randint(CLASSES, (train + test,), generator=draws)
    # A few at a time: as floats all of them would take more memory than what is measured.
    images = torch.cat(
        [
            (patterns[some] + NOISE * torch.randn(patterns[some].shape, generator=draws))
            .clamp(0, 255)
            .to(torch.uint8)
            for some in torch.split(labels, 1_000)
        ]
    )
    return ImageData(
        name=f"made-up {side}x{side}",
        train_images=images[:train].clone(),
        train_labels=labels[:train].clone(),
        test_images=images[train:].clone(),
        test_labels=labels[train:].clone(),
        classes=tuple("0123456789"),
        mean=CENTRED[:1],
        std=CENTRED[1:],
    )


like_mnist = partial(made_up, train=2_000, test=500, side=28)
"""Ten clients of 200 images."""

like_digits = partial(made_up, train=2_000, test=500, side=8)
"""The same of the size of the offline default."""

for_100 = partial(made_up, train=2_000, test=360, side=8)
"""A hundred clients of twenty images."""

for_10000 = partial(made_up, train=200_000, test=360, side=8)
"""Ten thousand clients of twenty images."""
