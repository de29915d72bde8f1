"""Labelled images in memory: uint8, on one device, normalised only when they are used."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.core.seeds import generator

CENTRED = (0.5, 0.5)
"""Mean and standard deviation of a normalisation that does not depend on the images, for data
without published constants."""


@dataclass(frozen=True)
class ImageData:
    """A training set and a test set of images of one size.

    Attributes:
        name: Name of the data set in reports.
        train_images: uint8 ``[n, channels, height, width]`` from 0 to 255, 1 or 3 channels.
        train_labels: int64 ``[n]``, from 0 to the number of classes - 1.
        test_images: uint8 ``[m, channels, height, width]`` from 0 to 255.
        test_labels: int64 ``[m]``, from 0 to the number of classes - 1.
        classes: Names of the classes, in order of their labels; printable.
        mean: Mean of each channel, for the public normalisation of pixels in [0, 1].
        std: Standard deviation of each channel, above 0, for the same normalisation.
        train_groups: int64 ``[n]``, numbers of where each training image comes from, such as its
            hospital or writer, for the partition ``natural``; ``None`` if nobody knows.

    Raises:
        BadInput: If the parts do not fit each other.
    """

    name: str
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_groups: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise BadInput(f"{self.name}: {problem}")
        for name in ("train_images", "test_images"):
            object.__setattr__(self, name, _in_order(getattr(self, name)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes in the data set."""
        return len(self.classes)

    @property
    def device(self) -> torch.device:
        """Device on which the images are stored."""
        return self.train_images.device

    def to(self, device: torch.device | str) -> "ImageData":
        """Copy the images and labels to a device."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def pixels(self, images: Tensor) -> Tensor:
        """Convert uint8 images to float32 pixels in [0, 1]."""
        return images.float().div(255)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert pixels in [0, 1] to network inputs of about mean 0 and deviation 1."""
        mean, std = _constants(tuple(self.mean), tuple(self.std), pixels.device)
        return (pixels - mean) / std

    def denormalise(self, inputs: Tensor) -> Tensor:
        """Convert network inputs back to pixels, the inverse of ``normalise``."""
        mean, std = _constants(tuple(self.mean), tuple(self.std), inputs.device)
        return inputs * std + mean

    def limited(self, train: int | None, test: int | None, seed: int) -> "ImageData":
        """Draw a subset of the training and of the test images.

        Args:
            train: Number of training images to keep; ``None`` keeps all.
            test: Number of test images to keep; ``None`` keeps all.
            seed: Root seed of the draws.

        Raises:
            BadInput: If the data set has fewer images.
        """
        for what, count, most in (
            ("train", train, len(self.train_labels)),
            ("test", test, len(self.test_labels)),
        ):
            if count is not None and count > most:
                raise BadInput(f"data.{what} is {count}, but {self.name} has only {most} images")
        kept_train = _drawn(len(self.train_labels), train, seed, "train subset")
        kept_test = _drawn(len(self.test_labels), test, seed, "test subset")
        return replace(
            self,
            train_images=self.train_images[kept_train],
            train_labels=self.train_labels[kept_train],
            test_images=self.test_images[kept_test],
            test_labels=self.test_labels[kept_test],
            train_groups=None if self.train_groups is None else self.train_groups[kept_train],
        )

    def repeated_test_images(self) -> int:
        """Number of test images that are training images as well, pixel by pixel."""
        known = {_digest(image) for image in self.train_images.cpu()}
        return sum(_digest(image) in known for image in self.test_images.cpu())

    def __repr__(self) -> str:
        size = "x".join(str(side) for side in self.shape)
        return (
            f"ImageData({self.name!r}, {len(self.train_labels)} + {len(self.test_labels)} images "
            f"of {size}, {self.num_classes} classes, {self.device})"
        )


def _in_order(images: Tensor) -> Tensor:
    """The images with the strides of a new tensor of their shape, without a copy where possible.

    PyTorch takes grey images with other strides for channels-last ones: networks then end in other
    bits, and backward passes of small ones write beyond their memory on some CPUs (PyTorch 2.14).
    """
    return images.contiguous().view(-1).view(images.shape)


@lru_cache(maxsize=16)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Mean and deviation as tensors; cached, since every batch needs them."""
    with torch.inference_mode(False):  # so that later callers may differentiate
        first = torch.tensor(mean, device=device).view(-1, 1, 1)
        return first, torch.tensor(std, device=device).view(-1, 1, 1)


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


def _drawn(total: int, count: int | None, seed: int, purpose: str) -> Tensor | slice:
    if count is None:
        return slice(None)
    return torch.randperm(total, generator=generator(seed, purpose))[:count].sort().values


def _problem(data: ImageData) -> str | None:
    for split, images, labels in (
        ("training", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
            return (
                f"{split} images must be [n, 1 or 3, height, width], none of them 0, "
                f"but are {list(images.shape)}"
            )
        if images.dtype != torch.uint8:
            return f"{split} images must be uint8 from 0 to 255, but are {images.dtype}"
        if labels.dtype != torch.int64 or labels.shape != (len(images),):
            return (
                f"{len(images)} {split} images need as many int64 labels, "
                f"but there are {list(labels.shape)} of {labels.dtype}"
            )
        if int(labels.min()) < 0 or int(labels.max()) >= len(data.classes):
            return (
                f"{split} labels go from {int(labels.min())} to {int(labels.max())}, but the "
                f"{len(data.classes)} classes are numbered from 0"
            )
    groups = data.train_groups
    if groups is not None and (groups.dtype, groups.shape) != (
        torch.int64,
        data.train_labels.shape,
    ):
        return (
            f"{len(data.train_images)} training images need as many int64 groups, but there are "
            f"{list(groups.shape)} of {groups.dtype}"
        )
    if data.train_images.shape[1:] != data.test_images.shape[1:]:
        return (
            f"training images are {list(data.train_images.shape[1:])}, "
            f"but test images {list(data.test_images.shape[1:])}"
        )
    if unprintable := [name for name in data.classes if not name.isprintable()]:
        return f"the class {unprintable[0]!a} has letters that cannot be printed: rename it"
    channels = data.train_images.shape[1]
    if len(data.mean) != channels or len(data.std) != channels or min(data.std) <= 0:
        return f"mean and std need {channels} values each, those of std above 0"
    return None
