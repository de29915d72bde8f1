"""MaxUp: train on the worst of several augmented copies of each image.

Gong et al., "MaxUp: A Simple Way to Improve Generalization of Neural Network Training"
(arXiv 2002.09024); as a defense against poisons Borgnia et al. (arXiv 2011.09527).
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fedlab.defenses.augmentation import PixelChange, pixel_change
from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline
from fedlab.defenses.settings import Cutout, FlipCrop, MaxUp


class WorstCopy:
    """MaxUp as a defense of one round.

    The gradient of the largest of several losses is that of the copy that has it, so the worst
    copies are chosen first and trained on by whatever computes gradients.
    """

    def __init__(self, settings: MaxUp) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the choice after whatever the pipeline does to a batch already."""
        augmentation = Cutout() if self.settings.augmentation == "cutout" else FlipCrop()
        change = pixel_change(augmentation, context, generator=context.stream(self.settings.name))

        def transform(batch: Batch) -> Batch:
            return worst(pipeline.transform(batch), change, context, copies=self.settings.copies)

        return replace(pipeline, transform=transform)


def worst(batch: Batch, change: PixelChange, context: ClientContext, *, copies: int) -> Batch:
    """For each image the copy with the largest loss at the network's present weights.

    The network is asked in the mode that it trains in, without touching its BatchNorm statistics;
    in training mode BatchNorm sees the copies of one draw together.

    Args:
        batch: Of any size.
        change: Makes one copy of every image; each call draws anew.
        context: The network, and how it takes pixels.
        copies: Of each image, at least 1.

    Returns:
        The batch with other pixels.
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


@torch.no_grad()
def _losses(context: ClientContext, pixels: Tensor, labels: Tensor) -> Tensor:
    outputs = _outputs(context.model, context.network_input(pixels))
    return functional.cross_entropy(outputs, labels, reduction="none")


def _outputs(model: nn.Module, images: Tensor) -> Tensor:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    outputs: Tensor = functional_call(model, buffers, (images,))
    return outputs
