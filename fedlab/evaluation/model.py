"""How good a model is on test images, and how far a poisoning of it got."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.core.modes import evaluation

Images = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ModelScore:
    """A model's scores on labelled images.

    Attributes:
        loss: Mean cross-entropy in nats.
        confusion: int64 ``[classes, classes]``, how many images of a class (row) the model takes
            for each class (column).
    """

    loss: float
    confusion: Tensor = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Share of right predictions, in [0, 1]; NaN if there is no image."""
        return _share(self.confusion.diagonal().sum(), self.confusion.sum())

    @property
    def worst_recall(self) -> float:
        """The same among the images of the class where it is lowest, of those that have images."""
        right, images = self.confusion.diagonal().double(), self.confusion.sum(1)
        return float((right[images > 0] / images[images > 0]).min()) if images.any() else math.nan

    def taken_for(self, pairs: Collection[tuple[int, int]]) -> float:
        """How often images of some classes are taken for others.

        Args:
            pairs: Of a class, and what its images are taken for.

        Returns:
            Share in [0, 1] over the images of all pairs; NaN if there is none.
        """
        if not self.confusion.any():
            return math.nan
        cases = torch.tensor(list(pairs), dtype=torch.int64).reshape(-1, 2)
        true, taken = cases.to(self.confusion.device).T
        return _share(self.confusion[true, taken].sum(), self.confusion.sum(1)[true].sum())


def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, normalise: Images, *, batch: int = 1024
) -> ModelScore:
    """Accuracy and loss in evaluation mode; every module's mode is put back afterwards.

    Args:
        model: Maps normalised images to logits ``[n, classes]``.
        images: uint8 ``[n, channels, height, width]``, on the model's device.
        labels: int64 ``[n]``.
        normalise: Makes uint8 images the model's input.
        batch: Images at a time.

    Returns:
        The scores; NaN if there is no image.
    """
    if not len(images):
        return ModelScore(math.nan, torch.zeros((1, 1), dtype=torch.int64))
    predicted = torch.empty_like(labels)
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    with evaluation(model):
        for start in range(0, len(images), batch):
            logits = model(normalise(images[start : start + batch]))
            true = labels[start : start + batch]
            predicted[start : start + batch] = logits.argmax(1)
            loss += functional.cross_entropy(logits, true, reduction="sum")
    classes = logits.shape[1]
    cells = torch.bincount(labels * classes + predicted, minlength=classes**2)
    return ModelScore(loss.item() / len(images), cells.reshape(classes, classes))


def success_rate(
    model: nn.Module, images: Tensor, wanted: Tensor, normalise: Images, *, batch: int = 1024
) -> float:
    """Share of images that the model takes for what an attacker wants.

    Args:
        model: Maps normalised images to logits.
        images: uint8 ``[n, channels, height, width]``, as the attacker shows them.
        wanted: int64 ``[n]``.
        normalise: Makes uint8 images the model's input.
        batch: Images at a time.

    Returns:
        Share in [0, 1]; NaN if there is no image.
    """
    return evaluate(model, images, wanted, normalise, batch=batch).accuracy


def _share(part: Tensor, whole: Tensor) -> float:
    return int(part) / int(whole) if int(whole) else math.nan
