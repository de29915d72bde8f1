"""Adversarial poisoning: training on poisons that are crafted inside every batch.

Geiping et al., "What Doesn't Kill You Makes You Robust(er)" (arXiv 2102.13624), the variant
``adversarial-wb-recombine``: gradient alignment as in Witches' Brew, and training on all images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import ELSEWHERE, Defense

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline


class AdversarialPoisoning(Defense):
    """Trains on poisons that are crafted inside every batch (arXiv 2102.13624)."""

    epsilon: float = Field(default=16 / 255, gt=0, le=1)
    """Largest change of a pixel, above 0 and at most 1, for pixels in [0, 1]."""
    steps: Count = Field(default=5, ge=1)
    """Steps of signed Adam per batch that align the gradients; the paper takes 5."""
    lr: float = Field(default=0.4, gt=0)
    """Step size of the inner attack, in units of epsilon. The paper's 0.1 of a normalised image,
    whose pixels have a deviation of about 0.25, is 0.4 of its epsilon."""
    inner: Literal["alignment", "random"] = "alignment"
    """Kind of change: ``alignment`` optimises it; ``random`` is a control, noise of equal size."""

    colour: ClassVar[str] = "#332288"
    strengths: ClassVar[tuple[str, ...]] = ("epsilon",)
    keeps_guarantees: ClassVar[bool] = True
    couples_images: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Run the inner attack after the earlier changes of a batch."""
        generator = context.stream(self.name)
        return pipeline.transforming(
            lambda batch: poisoned(batch, context, self, generator=generator)
        )

    def conflict(self, other: Defense) -> str | None:
        """Refuse mixing, since the inner attack needs one label for each image."""
        if other.mixes_images:
            return (
                f"both {self.name} and {other.name}: the inner attack needs one label for each "
                "image, and an image that it changed depends on others, which no mixing accounts "
                f"for; {ELSEWHERE}"
            )
        return None


def poisoned(
    batch: Batch,
    context: ClientContext,
    settings: AdversarialPoisoning,
    *,
    generator: Generator,
) -> Batch:
    """Poison the second half of a batch so that it pushes the first half to a wrong label.

    The images of the first half are targets with a fake label, the most frequent label of the
    second half. The second half is changed, within epsilon, so that its gradient aligns with the
    gradient of the targets under the fake label. The network then trains on all images with their
    true labels.

    Args:
        batch: Batch of any size; a single image has no target and stays unchanged.
        context: The client's round; its network is evaluated in evaluation mode.
        settings: Size, steps and kind of the inner attack.
        generator: CPU generator of the initial change.

    Returns:
        The batch with changed pixels in its second half.
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
    """Optimise the change by Adam on the sign of its gradient."""
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
