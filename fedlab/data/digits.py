"""The handwritten digits that ship with scikit-learn: real images without a download."""

import torch

from fedlab.data.images import CENTRED, ImageData

TEST = 360
"""Number of test images: a fifth of the 1,797, drawn per class and the same in every scenario."""


def load_digits() -> ImageData:
    """1,437 + 360 grey 8x8 digits that ship with scikit-learn.

    They are the test part of UCI's optical recognition of handwritten digits.
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    bunch = datasets.load_digits()
    grey = (bunch.images * (255 / 16)).round().astype("uint8")[:, None]  # pixels are 0 .. 16
    train_x, test_x, train_y, test_y = train_test_split(
        grey, bunch.target, test_size=TEST, stratify=bunch.target, random_state=0
    )
    return ImageData(
        name="digits",
        train_images=torch.from_numpy(train_x),
        train_labels=torch.from_numpy(train_y).long(),
        test_images=torch.from_numpy(test_x),
        test_labels=torch.from_numpy(test_y).long(),
        classes=tuple("0123456789"),
        mean=CENTRED[:1],
        std=CENTRED[1:],
    )
