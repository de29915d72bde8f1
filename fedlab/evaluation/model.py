"""Accuracy of a model on test images, and success rate of a poisoning."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.core.modes import evaluation
from fedlab.core.seeds import derive, seeded

Images = Callable[[Tensor], Tensor]

AT_ONCE = 256
"""Number of images in a forward pass, on which the last bits of a loss depend."""


@dataclass(frozen=True)
class ModelScore:
    """A model's scores on labelled images.

    Attributes:
        loss: Mean cross-entropy in nats.
        confusion: int64 ``[classes, classes]``, number of images of each true class (row) that the
            model assigns to each class (column).
    """

    loss: float
    confusion: Tensor = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Share of correct predictions in [0, 1]; NaN without images."""
        return _share(self.confusion.diagonal().sum(), self.confusion.sum())

    @property
    def chance_accuracy(self) -> float:
        """Accuracy of always predicting the most frequent class in [0, 1]; NaN without images."""
        return _share(self.confusion.sum(1).max(), self.confusion.sum())

    @property
    def worst_recall(self) -> float:
        """Lowest accuracy on the images of one class, among classes with images; else NaN."""
        right, images = self.confusion.diagonal().double(), self.confusion.sum(1)
        return float((right[images > 0] / images[images > 0]).min()) if images.any() else math.nan

    def taken_for(self, pairs: Collection[tuple[int, int]]) -> float:
        """Share of images of some classes that the model assigns to given other classes.

        Args:
            pairs: Pairs of a true class and the class that its images are assigned to.

        Returns:
            Share in [0, 1] over the images of all pairs; NaN if there is none.
        """
        if not self.confusion.any():
            return math.nan
        cases = torch.tensor(list(pairs), dtype=torch.int64).reshape(-1, 2)
        true, taken = cases.to(self.confusion.device).T
        return _share(self.confusion[true, taken].sum(), self.confusion.sum(1)[true].sum())


def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, normalise: Images, *, batch: int = AT_ONCE
) -> ModelScore:
    """Measure accuracy and loss in evaluation mode, and restore the mode of every module.

    Args:
        model: Network from normalised images to logits ``[n, classes]``.
        images: uint8 ``[n, channels, height, width]``, on the model's device.
        labels: int64 ``[n]``, labels of the images.
        normalise: Function from uint8 images to the model's input.
        batch: Number of images in a forward pass.

    Returns:
        The scores; NaN without images.
    """
    return combined(
        [
            count(model, images, labels, normalise, start=start, batch=batch)
            for start in range(0, len(images), batch)
        ]
    )


def count(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Images,
    *,
    start: int,
    batch: int = AT_ONCE,
) -> tuple[float, Tensor]:
    """The scores of one part of the images, for ``combined``.

    Args:
        model: Network from normalised images to logits ``[n, classes]``.
        images: uint8 ``[n, channels, height, width]``, on the model's device.
        labels: int64 ``[n]``, labels of the images.
        normalise: Function from uint8 images to the model's input.
        start: Place of the first image of the part.
        batch: Number of images in the part.

    Returns:
        Sum of the cross-entropies, and the cells of ``ModelScore.confusion``.
    """
    images, labels = images[start : start + batch], labels[start : start + batch]
    # Some networks draw random numbers even here, in whatever process and order it is.
    with evaluation(model), seeded(derive(0, "evaluation", start), images.device):
        logits = model(normalise(images))
        loss = functional.cross_entropy(logits, labels, reduction="sum").item()
    classes = logits.shape[1]
    cells = torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2)
    return loss, cells.reshape(classes, classes)


def combined(parts: Sequence[tuple[float, Tensor]]) -> ModelScore:
    """The scores of all images from those of their parts, in order."""
    if not parts:
        return ModelScore(math.nan, torch.zeros((1, 1), dtype=torch.int64))
    confusion = torch.stack([cells for _, cells in parts]).sum(0)
    return ModelScore(sum(loss for loss, _ in parts) / int(confusion.sum()), confusion)


def success_rate(
    model: nn.Module, images: Tensor, wanted: Tensor, normalise: Images, *, batch: int = AT_ONCE
) -> float:
    """Share of images that the model assigns to the label that an attacker wants.

    Args:
        model: Network from normalised images to logits.
        images: uint8 ``[n, channels, height, width]``, with the attacker's changes.
        wanted: int64 ``[n]``, label that the attacker wants for each image.
        normalise: Function from uint8 images to the model's input.
        batch: Number of images in a forward pass.

    Returns:
        Share in [0, 1]; NaN without images.
    """
    return evaluate(model, images, wanted, normalise, batch=batch).accuracy


def _share(part: Tensor, whole: Tensor) -> float:
    return int(part) / int(whole) if int(whole) else math.nan
