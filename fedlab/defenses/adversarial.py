"""Train against poisons that are made inside every batch.

Geiping et al., "What Doesn't Kill You Makes You Robust(er)" (arXiv 2102.13624), the variant
``adversarial-wb-recombine``: gradient alignment as in Witches' Brew, and all images trained on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.defenses.base import ELSEWHERE, Defense

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline


class AdversarialPoisoning(Defense):
    """Trains against poisons made inside every batch (arXiv 2102.13624)."""

    epsilon: float = Field(default=16 / 255, gt=0, le=1)
    """Largest change of a pixel, on pixels in [0, 1]."""
    steps: int = Field(default=5, ge=1)
    """Steps of signed Adam on the alignment of gradients for every batch; the paper takes 5."""
    lr: float = Field(default=0.1, gt=0)
    """Step size of the inner attack, in units of epsilon."""
    inner: Literal["alignment", "random"] = "alignment"
    """``random`` is the control: noise of the same size instead of an optimised change."""

    colour: ClassVar[str] = "#332288"
    keeps_guarantees: ClassVar[bool] = True
    couples_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Run the inner attack after all changes that are made to a batch already."""
        generator = context.stream(self.name)

        def transform(batch: Batch) -> Batch:
            return poisoned(pipeline.transform(batch), context, self, generator=generator)

        return replace(pipeline, transform=transform)

    def conflict(self, other: Defense) -> str | None:
        """The inner attack needs one label for each image."""
        if other.mixes_images:
            return (
                f"both {self.name} and {other.name}: the inner attack needs one label for each "
                "image, and an image that it changed holds something of others, which no mixing "
                f"accounts for; {ELSEWHERE}"
            )
        return None


def poisoned(
    batch: Batch,
    context: ClientContext,
    settings: AdversarialPoisoning,
    *,
    generator: Generator,
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
    from attacks.poisoning.crafting import start

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
    from attacks.poisoning.crafting import bounded
    from attacks.reconstruction.objectives import misalignment

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
    from attacks.gradients import batch_gradient

    parameters = {name: p.detach() for name, p in context.model.named_parameters()}
    return batch_gradient(
        context.model,
        parameters,
        dict(context.model.named_buffers()),
        context.network_input(pixels),
        labels,
        create_graph=create_graph,
    )
