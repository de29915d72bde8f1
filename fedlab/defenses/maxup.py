"""MaxUp: training on the worst of several augmented copies of each image.

Gong et al., "MaxUp: A Simple Way to Improve Generalization of Neural Network Training"
(arXiv 2002.09024); as a defense against poisons Borgnia et al. (arXiv 2011.09527).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense
from fedlab.defenses.cutout import Cutout
from fedlab.defenses.flip_crop import FlipCrop

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedlab.defenses.augmentation import PixelChange
    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline


class MaxUp(Defense):
    """Trains on the worst of several augmented copies of each image (arXiv 2002.09024).

    The gradient of the largest of several losses is the gradient of the copy with that loss, so the
    worst copies are chosen first, and the pipeline's gradient is computed on them.
    """

    copies: Count = Field(default=4, ge=2)
    """Number of augmented copies of each image, at least 2."""
    augmentation: Literal["cutout", "flip-crop"] = "cutout"
    """Augmentation that makes the copies, with its default settings."""

    colour: ClassVar[str] = "#882255"
    keeps_guarantees: ClassVar[bool] = True
    draws_each_round: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Choose the worst copies after the earlier changes of a batch."""
        augmentation = Cutout() if self.augmentation == "cutout" else FlipCrop()
        change = augmentation.pixel_change(context, context.stream(self.name))
        return pipeline.transforming(
            lambda batch: worst(batch, change, context, copies=self.copies)
        )


def worst(batch: Batch, change: PixelChange, context: ClientContext, *, copies: int) -> Batch:
    """Choose for each image the copy with the largest loss at the network's current weights.

    The network stays in its training or evaluation mode, and its BatchNorm statistics do not
    change. In training mode BatchNorm normalises over the copies of one draw.

    Args:
        batch: Batch of any size.
        change: Augmentation that makes one copy of every image; each call draws anew.
        context: The client's round, with its network.
        copies: Number of copies of each image, at least 1.

    Returns:
        The batch with the pixels of the chosen copies.
    """
    if not len(batch.members):
        return batch
    chosen = change(batch.pixels)
    largest = _losses(context, chosen, batch.labels)
    for _ in range(copies - 1):
        copy = change(batch.pixels)
        losses = _losses(context, copy, batch.labels)
        worse = losses > largest
        chosen = torch.where(worse.view(-1, 1, 1, 1), copy, chosen)
        largest = torch.where(worse, losses, largest)
    return replace(batch, pixels=chosen)


def _losses(context: ClientContext, pixels: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        outputs = _outputs(context.model, context.network_input(pixels))
        return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


def _outputs(model: nn.Module, images: Tensor) -> Tensor:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    outputs: Tensor = torch.func.functional_call(model, buffers, (images,))
    return outputs
