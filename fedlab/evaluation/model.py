"""How good a model is on test images, and how far a poisoning of it got.

Attack success as in Gu et al., "BadNets" (arXiv 1708.06733), with images of the target class left
out: counted in, a clean model of ten classes would already show 10 %.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Images = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ModelScore:
    """A model's scores on labelled images.

    Attributes:
        accuracy: Share of right predictions, in [0, 1].
        loss: Mean cross-entropy in nats.
    """

    accuracy: float
    loss: float


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
        return ModelScore(math.nan, math.nan)
    right = torch.zeros((), dtype=torch.int64, device=images.device)
    loss = torch.zeros((), dtype=torch.float64, device=images.device)
    with _evaluation(model):
        for start in range(0, len(images), batch):
            logits = model(normalise(images[start : start + batch]))
            true = labels[start : start + batch]
            right += (logits.argmax(1) == true).sum()
            loss += functional.cross_entropy(logits, true, reduction="sum")
    return ModelScore(right.item() / len(images), loss.item() / len(images))


def attack_success_rate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Images,
    *,
    trigger: Images,
    target: int,
    batch: int = 1024,
) -> float:
    """Share of triggered images of other classes that the model takes for the target.

    Args:
        model: Maps normalised images to logits.
        images: uint8 ``[n, channels, height, width]``, untouched test images.
        labels: int64 ``[n]``.
        normalise: Makes uint8 images the model's input.
        trigger: Puts the backdoor's trigger on uint8 images; must not write into its input.
        target: The class that the backdoor leads to.
        batch: Images at a time.

    Returns:
        Share in [0, 1]; NaN if no image is of another class.
    """
    places = (labels != target).nonzero().squeeze(1)
    wanted = torch.full_like(labels, target)
    return _share_predicted(
        model, images, wanted, places, lambda raw: normalise(trigger(raw)), batch=batch
    )


def flip_success_rate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Images,
    *,
    wrong: Tensor,
    batch: int = 1024,
) -> float:
    """Share of test images predicted as the label that a label flip would give them.

    Args:
        model: Maps normalised images to logits.
        images: uint8 ``[n, channels, height, width]``, untouched test images.
        labels: int64 ``[n]``.
        normalise: Makes uint8 images the model's input.
        wrong: int64 ``[n]``, the flipped labels; images whose label stays do not count.
        batch: Images at a time.

    Returns:
        Share in [0, 1]; NaN if no label changes.
    """
    places = (labels != wrong).nonzero().squeeze(1)
    return _share_predicted(model, images, wrong, places, normalise, batch=batch)


def _share_predicted(
    model: nn.Module, images: Tensor, wanted: Tensor, places: Tensor, inputs: Images, *, batch: int
) -> float:
    if not len(places):
        return math.nan
    hits = torch.zeros((), dtype=torch.int64, device=images.device)
    with _evaluation(model):
        for start in range(0, len(places), batch):
            chosen = places[start : start + batch]
            hits += (model(inputs(images[chosen])).argmax(1) == wanted[chosen]).sum()
    return hits.item() / len(places)


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    # Module by module: a plain train() would also wake layers that were frozen on purpose.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
