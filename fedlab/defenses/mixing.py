"""What defenses share that mix the images and labels of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlab.core.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import Batch


def soft(labels: Tensor, classes: int) -> Tensor:
    """Labels as shares of classes, float32 ``[b, classes]``; labels of that form stay."""
    if labels.is_floating_point():
        return labels
    return torch.nn.functional.one_hot(labels, classes).float()


def random_orders(batch: Batch, count: int, generator: Generator) -> list[Tensor]:
    """Random orders of the images of a batch, int64 ``[b]`` each."""
    return [torch.randperm(len(batch.members), generator=generator) for _ in range(count)]
