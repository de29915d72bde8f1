"""Witches' Brew: poisons whose gradient points where the target's would (arXiv 2009.02276)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.core.settings import Count
from fedlab.poisoning.crafting import CRAFTING
from fedlab.poisoning.targeted import TargetedPoison

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import Goal, PoisoningContext


class GradientMatching(TargetedPoison):
    """Aligns the training gradient of the poisons with the gradient of the target image."""

    restarts: Count = Field(default=8, ge=1)
    """Number of random starts, at least 1; the best result is kept."""
    augment: bool = True
    """Craft through random crops and flips, for victims that augment their images so."""
    ensemble: Count = Field(default=1, ge=1)
    """Number of own networks to craft against together, at least 1; of the global network there is
    one."""

    def craft_images(
        self, shard: Shard, places: Tensor, goal: Goal, context: PoisoningContext
    ) -> Tensor:
        """Return the poisoned images."""
        # These import torch, which reading a scenario does not need.
        from attacks.poisoning.augment import CropAndFlip
        from attacks.poisoning.crafting import CraftSettings
        from attacks.poisoning.gradient_matching import match_gradients
        from fedlab.poisoning.surrogates import surrogates

        return match_gradients(
            surrogates(context, shard, self, count=self.ensemble),
            shard.images[places],
            shard.labels[places],
            targets=goal.images,
            intended=goal.wanted,
            settings=CraftSettings(epsilon=self.epsilon, steps=self.steps, restarts=self.restarts),
            augment=CropAndFlip() if self.augment else None,
            generator=context.own(CRAFTING),
        ).images
