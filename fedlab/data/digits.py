"""The handwritten digits that ship with scikit-learn: real images without a download."""

from functools import cache

import torch
from torch import Tensor

from fedlab.data.images import CENTRED, ImageData

TEST = 360
"""Number of test images: a fifth of the 1,797, drawn per class and the same in every scenario."""


def load_digits() -> ImageData:
    """1,437 + 360 grey 8x8 digits that ship with scikit-learn.

    They are the test part of UCI's optical recognition of handwritten digits.
    """
    train_images, test_images, train_labels, test_labels = (part.clone() for part in _parts())
    return ImageData(
        name="digits",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=tuple("0123456789"),
        mean=CENTRED[:1],
        std=CENTRED[1:],
    )


@cache  # scikit-learn parses a text file each time
def _parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, test images, training labels and test labels."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    bunch = datasets.load_digits()
    grey = (bunch.images * (255 / 16)).round().astype("uint8")[:, None]  # pixels are 0 .. 16
    train_x, test_x, train_y, test_y = train_test_split(
        grey, bunch.target, test_size=TEST, stratify=bunch.target, random_state=0
    )
    return (
        torch.from_numpy(train_x),
        torch.from_numpy(test_x),
        torch.from_numpy(train_y).long(),
        torch.from_numpy(test_y).long(),
    )
