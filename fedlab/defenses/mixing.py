"""Functions shared by defenses that mix the images and labels of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlab.core.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import Batch


def soft(labels: Tensor, classes: int) -> Tensor:
    """Convert labels to weights of classes.

    Args:
        labels: int64 ``[b]``, or float32 ``[b, classes]``, which is returned unchanged.
        classes: Number of classes in the data set.

    Returns:
        Weight of each class, float32 ``[b, classes]``.
    """
    if labels.is_floating_point():
        return labels
    return torch.nn.functional.one_hot(labels, classes).float()


def random_orders(batch: Batch, count: int, generator: Generator) -> list[Tensor]:
    """Draw ``count`` random orders of the images of a batch, int64 ``[b]`` each."""
    return [torch.randperm(len(batch.members), generator=generator) for _ in range(count)]
