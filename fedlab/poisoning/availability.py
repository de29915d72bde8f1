"""Availability poisons: images from which a model learns little (arXiv 2103.02683, 2106.10807)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.poisoning.crafting import CRAFTING, CraftedPoison

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import PoisoningContext

PGD_STEP = 0.05
"""Step size of PGD over epsilon, for 250 steps (arXiv 2106.10807, its public code)."""

PGD_PATH = 2.5
"""Total length of fewer PGD steps over epsilon: enough to cross the ball of radius epsilon."""

ALIGNED_TOGETHER = 100
"""Images whose gradient is aligned together: fewer are aligned better, but take more time."""


class Availability(CraftedPoison):
    """Changes images so that a model trained on them learns little; success is lost accuracy."""

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the client's images that are changed, in (0, 1]; the papers change all."""
    method: Literal["alignment", "adversarial"] = "alignment"
    """``alignment``: align the training gradient with that of the reverse cross-entropy.
    ``adversarial``: use adversarial examples of another class (arXiv 2106.10807)."""
    against: Literal["global", "own"] = "own"
    """Network that the poison is crafted against: the ``global`` one of the round, or the client's
    ``own``, trained from scratch."""
    when: Literal["each-round", "once"] = "once"
    """Craft a new poison in every round, or only in the first one that the client poisons."""

    def craft(self, shard: Shard, context: PoisoningContext) -> tuple[Tensor, Tensor]:
        """Choose images at random and craft them."""
        # These import torch, which reading a scenario does not need.
        from attacks.poisoning.availability import adversarial_poisons, misalign_training
        from attacks.poisoning.crafting import CraftSettings
        from fedlab.poisoning.surrogates import surrogates

        order = torch.randperm(len(shard), generator=context.own("poison"))
        places = order[: max(1, round(self.share * len(shard)))].to(shard.labels.device)
        images, labels = shard.images[places], shard.labels[places]
        if self.control:
            return places, images
        networks, drawn = surrogates(context, shard, self), context.own(CRAFTING)
        if self.method == "alignment":
            crafted = misalign_training(
                networks,
                images,
                labels,
                settings=CraftSettings(epsilon=self.epsilon, steps=self.steps, restarts=1),
                partition=ALIGNED_TOGETHER,
                generator=drawn,
            )
        else:
            step = max(PGD_STEP, PGD_PATH / self.steps) * self.epsilon
            crafted = adversarial_poisons(
                networks,
                images,
                labels,
                num_classes=shard.num_classes,
                settings=CraftSettings(
                    epsilon=self.epsilon, steps=self.steps, restarts=1, lr=step, rule="pgd"
                ),
                generator=drawn,
            )
        return places, crafted.images
