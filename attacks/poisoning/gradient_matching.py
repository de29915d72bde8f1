"""Poisons whose gradient points where that of a wrongly labelled target points.

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
"""Poisons whose gradient is matched together, the ``pbatch`` of the paper's code."""


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
    """Brew poisons after which training takes unchanged target images for another class.

    Lowers the mean over surrogates of the paper's eq. 3,
    B = 1 - <grad L(F(x_t), y_adv), mean_i grad L(F(x_i + delta_i), y_i)> / (product of norms).
    The gradient of the targets is computed once. The labels of the poisons stay.

    Args:
        surrogates: Networks trained on clean data; more than one is the paper's ensemble.
        images: uint8 ``[p, channels, height, width]``, the images that become poisons; the paper
            takes them from the intended class (see ``selection.choose``).
        labels: int64 ``[p]``.
        targets: uint8 ``[t, channels, height, width]``; never in the training data.
        intended: int64 ``[t]``, the labels that they are to get.
        settings: Size, steps and restarts.
        augment: Drawn anew for the poisons in every step, if the victim does so too.
        block: Poisons whose gradient is matched together.
        generator: CPU generator.
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
    """For each block of poisons, 1 less the cosine of its gradient and the wanted one.

    Args:
        surrogate: The network.
        labels: int64 ``[p]``, of the poisons.
        wanted: The fixed gradient, by parameter name. To one of zero, as from a target that the
            network takes for the intended class already, everything is at right angles.
        augment: Of the poisons.
        block: Poisons in a block.
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
