"""Sleeper Agent: a backdoor whose trigger is on no training image.

Souri et al., "Sleeper Agent: Scalable Hidden Trigger Backdoors for Neural Networks Trained from
Scratch" (arXiv 2106.08970): gradient matching against triggered images, with the images of the
largest gradients as poisons, and a network that is retrained while they are crafted.
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
"""Number of times that the authors' code retrains the network in 250 steps."""


@dataclass(frozen=True)
class Sleepers:
    """The poisons of Sleeper Agent.

    Attributes:
        chosen: Indices of the poisons in the training set, int64 ``[p]``.
        crafted: Poisoned images and the course of their cost.
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
    """Craft poisons so that a model trained on them predicts the target for triggered images.

    The gradient to match is the mean over the sources, with the trigger and the target label. The
    poisons are images of the target class under their own label, without the trigger. The paper
    uses ``restarts=1``; every restart retrains the network as often.

    Args:
        surrogates: Networks trained on the clean images; the first one chooses the poisons.
        images: Images, uint8 ``[n, channels, height, width]``, the whole training set.
        labels: Class of each image, int64 ``[n]``.
        sources: Images of the source class, uint8 ``[s, channels, height, width]``.
        target_class: Class that the model shall predict for triggered source images.
        trigger: Returns copies of uint8 images with the trigger.
        count: Number of poisons.
        settings: Largest change, steps and restarts.
        augment: Augmentation of the poisons, drawn anew in every step.
        block: Number of poisons whose gradient is matched together.
        retrain: Trains a network on all images with the current poisons; crafting goes on against
            it. ``None`` keeps the surrogates.
        retrains: Number of times that the network is retrained, at equal distances.
        generator: CPU random generator.

    Raises:
        ValueError: If the target class has fewer images than ``count``.
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
