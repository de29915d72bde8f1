"""How good a model is on test images, and how far a poisoning of it got."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.modes import evaluation

Images = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ModelScore:
    """A model's scores on labelled images.

    Attributes:
        accuracy: Share of right predictions, in [0, 1].
        loss: Mean cross-entropy in nats.
        worst_recall: Share of right predictions among the images of the class where it is lowest;
            classes without an image do not count.
    """

    accuracy: float
    loss: float
    worst_recall: float


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
        return ModelScore(math.nan, math.nan, math.nan)
    right = torch.empty(len(images), dtype=torch.bool, device=images.device)
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    with evaluation(model):
        for start in range(0, len(images), batch):
            logits = model(normalise(images[start : start + batch]))
            true = labels[start : start + batch]
            right[start : start + batch] = logits.argmax(1) == true
            loss += functional.cross_entropy(logits, true, reduction="sum")
    of_class = torch.bincount(labels)
    recall = torch.bincount(labels, weights=right.double())[of_class > 0] / of_class[of_class > 0]
    return ModelScore(
        int(right.sum()) / len(images), loss.item() / len(images), float(recall.min())
    )


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
