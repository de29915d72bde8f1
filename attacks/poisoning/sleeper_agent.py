"""A backdoor whose trigger is in no training image.

Souri et al., "Sleeper Agent: Scalable Hidden Trigger Backdoors for Neural Networks Trained from
Scratch" (arXiv 2106.08970): gradient matching against triggered images, the steepest images as
poisons, and a network that is trained again while they are made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.poisoning.augment import CropAndFlip
from attacks.poisoning.crafting import Cost, CraftedImages, CraftSettings, craft, pixels_of
from attacks.poisoning.gradient_matching import BLOCK, matching
from attacks.poisoning.selection import choose_steepest
from attacks.poisoning.surrogate import Surrogate

RETRAINS = 4
"""Times that the authors' code trains the network again, in 250 steps."""


@dataclass(frozen=True)
class Sleepers:
    """Poisons, and where they belong.

    Attributes:
        chosen: int64 ``[p]``, their places in the training set.
        crafted: Their images, and how they came about.
    """

    chosen: Tensor
    crafted: CraftedImages


def sleeper_agent(
    surrogates: Sequence[Surrogate],
    images: Tensor,
    labels: Tensor,
    *,
    sources: Tensor,
    target_class: int,
    trigger: Callable[[Tensor], Tensor],
    count: int,
    settings: CraftSettings,
    augment: CropAndFlip | None = None,
    block: int = BLOCK,
    retrain: Callable[[Tensor], Surrogate] | None = None,
    retrains: int = RETRAINS,
    generator: torch.Generator,
) -> Sleepers:
    """Brew poisons after which training takes triggered images for the target class.

    The gradient to match is the mean over the sources, with the trigger and the target label. The
    poisons are images of the target class under their own label, and never see the trigger. The
    paper makes one start, ``restarts=1``; each one trains the network again as often.

    Args:
        surrogates: Networks trained on the clean images; the first one chooses the poisons.
        images: uint8 ``[n, channels, height, width]``, the whole training set.
        labels: int64 ``[n]``.
        sources: uint8 ``[s, channels, height, width]``, images whose class is to be mistaken.
        target_class: For what.
        trigger: Stamps uint8 images.
        count: How many poisons.
        settings: Size, steps and restarts.
        augment: See ``match_gradients``.
        block: See there.
        retrain: From all images, with the poisons so far among them, to a network trained on them,
            against which crafting goes on. Without it the surrogates stay.
        retrains: How often, at equal distances.
        generator: CPU generator.

    Raises:
        ValueError: If there are fewer images of the target class.
    """
    chosen = choose_steepest(surrogates[0], images, labels, target_class=target_class, count=count)
    triggered = pixels_of(trigger(sources))
    mistaken = torch.full((len(sources),), target_class, device=labels.device)

    def costs(networks: Sequence[Surrogate]) -> list[Cost]:
        found: list[Cost] = []
        for network in networks:
            wanted = network.gradient(triggered, mistaken)
            found += matching(network, labels[chosen], wanted, augment=augment, block=block)
        return found

    def renew(poisons: Tensor) -> list[Cost]:
        if retrain is None:
            return costs(surrogates)
        sofar = images.clone()
        sofar[chosen] = poisons
        return costs([retrain(sofar)])

    crafted = craft(
        images[chosen],
        costs(surrogates),
        settings=settings,
        generator=generator,
        renew=renew,
        renewals=0 if retrain is None else retrains,
    )
    return Sleepers(chosen, crafted)
