"""Gradient matching: poisons whose gradient aligns with that of a wrongly labelled target.

Geiping et al., "Witches' Brew: Industrial Scale Data Poisoning via Gradient Matching"
(arXiv 2009.02276).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from attacks.poisoning.augment import CropAndFlip
from attacks.poisoning.crafting import Cost, CraftedImages, CraftSettings, craft, pixels_of
from attacks.poisoning.surrogate import Surrogate
from attacks.reconstruction.objectives import misalignment

BLOCK = 512
"""Number of poisons whose gradient is matched together, the ``pbatch`` of the paper's code."""


def match_gradients(
    surrogates: Sequence[Surrogate],
    images: Tensor,
    labels: Tensor,
    *,
    targets: Tensor,
    intended: Tensor,
    settings: CraftSettings,
    augment: CropAndFlip | None = None,
    block: int = BLOCK,
    generator: torch.Generator,
) -> CraftedImages:
    """Craft poisons so that a model trained on them predicts another class for the targets.

    Lowers the mean over surrogates of the paper's eq. 3,
    B = 1 - <grad L(F(x_t), y_adv), mean_i grad L(F(x_i + delta_i), y_i)> / (product of norms).
    The gradient of the targets is computed once. The labels of the poisons stay.

    Args:
        surrogates: Networks trained on clean data; more than one is the paper's ensemble.
        images: Images, uint8 ``[p, channels, height, width]``, the images that become poisons; the
            paper takes them from the intended class (see ``selection.choose``).
        labels: Class of each poison, int64 ``[p]``.
        targets: Target images, uint8 ``[t, channels, height, width]``; they are
            not in the training data.
        intended: Class that the model shall predict for each target, int64 ``[t]``.
        settings: Largest change, steps and restarts.
        augment: Augmentation of the poisons, drawn anew in every step, if the victim augments too.
        block: Number of poisons whose gradient is matched together.
        generator: CPU random generator.
    """
    costs: list[Cost] = []
    for surrogate in surrogates:
        wanted = surrogate.gradient(pixels_of(targets), intended)
        costs += matching(surrogate, labels, wanted, augment=augment, block=block)
    return craft(images, costs, settings=settings, generator=generator)


def matching(
    surrogate: Surrogate,
    labels: Tensor,
    wanted: Mapping[str, Tensor],
    *,
    augment: CropAndFlip | None,
    block: int = BLOCK,
) -> list[Cost]:
    """Return one cost for each block of poisons: 1 minus the cosine with the wanted gradient.

    Args:
        surrogate: Network that computes the gradients.
        labels: Class of each poison, int64 ``[p]``.
        wanted: Fixed gradient by parameter name. The cost is 1 for a gradient of zero, as from a
            target that the network already predicts as intended.
        augment: Augmentation of the poisons, drawn anew in every step.
        block: Number of poisons in a block.
    """
    distance = misalignment(wanted)

    def of(first: int) -> Cost:
        places = slice(first, first + block)

        def cost(pixels: Tensor, generator: torch.Generator) -> Tensor:
            taken = pixels[places]
            if augment is not None:
                taken = augment(taken, generator)
            return distance(surrogate.gradient(taken, labels[places], create_graph=True))

        return cost

    return [of(first) for first in range(0, len(labels), block)]
