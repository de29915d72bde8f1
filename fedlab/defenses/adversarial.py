"""Train against poisons that are made inside every batch.

Geiping et al., "What Doesn't Kill You Makes You Robust(er)" (arXiv 2102.13624), the variant
``adversarial-wb-recombine``: gradient alignment as in Witches' Brew, and all images trained on.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from attacks.gradients import batch_gradient
from attacks.poisoning.crafting import bounded, start
from attacks.reconstruction.objectives import misalignment
from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline
from fedlab.defenses.settings import AdversarialPoisoning


class PoisonBatches:
    """Adversarial poisoning as a defense of one round."""

    def __init__(self, settings: AdversarialPoisoning) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the inner attack after whatever the pipeline does to a batch already."""
        drawn = context.stream(self.settings.name)

        def transform(batch: Batch) -> Batch:
            return poisoned(pipeline.transform(batch), context, self.settings, generator=drawn)

        return replace(pipeline, transform=transform)


def poisoned(
    batch: Batch,
    context: ClientContext,
    settings: AdversarialPoisoning,
    *,
    generator: torch.Generator,
) -> Batch:
    """A batch whose second half pulls the network towards a wrong label of its first half.

    The first half are temporary targets under a fake label, the most frequent one of the second
    half. The second half is changed, within epsilon, so that its gradient points where that of
    the targets under the fake label does. All images are then trained on with their true labels.

    Args:
        batch: A single image has no target, and is left as it is.
        context: The network, asked in evaluation mode, and how it takes pixels.
        settings: Size, steps and kind of the inner attack.
        generator: CPU generator of the start.

    Returns:
        The batch with other pixels in its second half.
    """
    targets = len(batch.members) // 2
    if not targets:
        return batch
    clean, labels = batch.pixels[targets:], batch.labels[targets:]
    change = start(clean, epsilon=settings.epsilon, generator=generator)
    if settings.inner == "alignment":
        fake = labels.mode().values.expand(targets)
        mode = context.model.training
        context.model.eval()
        wanted = _gradient(context, batch.pixels[:targets], fake, create_graph=False)
        change = _aligned(change, clean, labels, wanted, context, settings)
        context.model.train(mode)
    return replace(batch, pixels=torch.cat([batch.pixels[:targets], clean + change]))


def _aligned(
    change: Tensor,
    clean: Tensor,
    labels: Tensor,
    wanted: Mapping[str, Tensor],
    context: ClientContext,
    settings: AdversarialPoisoning,
) -> Tensor:
    """The change after so many steps of Adam on the sign of its gradient."""
    change = change.clone().requires_grad_()
    optimizer = torch.optim.Adam([change], lr=settings.lr * settings.epsilon)
    distance = misalignment(wanted)
    for _ in range(settings.steps):
        found = _gradient(context, clean + change, labels, create_graph=True)
        (slope,) = torch.autograd.grad(distance(found), change)
        change.grad = slope.sign()
        optimizer.step()
        with torch.no_grad():
            change.copy_(bounded(change, clean, settings.epsilon))
    return change.detach()


def _gradient(
    context: ClientContext, pixels: Tensor, labels: Tensor, *, create_graph: bool
) -> dict[str, Tensor]:
    parameters = {name: p.detach() for name, p in context.model.named_parameters()}
    return batch_gradient(
        context.model,
        parameters,
        dict(context.model.named_buffers()),
        context.network_input(pixels),
        labels,
        create_graph=create_graph,
    )
