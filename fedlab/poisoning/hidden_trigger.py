"""Sleeper Agent: a backdoor whose trigger is on no training image (arXiv 2106.08970)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.poisoning.context import Goal, check_classes
from fedlab.poisoning.crafting import CRAFTING, CraftedPoison, poison_count

if TYPE_CHECKING:
    from torch import Tensor

    from attacks.poisoning.surrogate import Surrogate
    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import PoisoningContext, Stream


class HiddenTrigger(CraftedPoison):
    """Crafts images so that a patch on test images of one class makes the model predict another."""

    source: Count = Field(default=1, ge=0)
    """Class whose test images the patch shall turn into the target."""
    target: Count = Field(default=0, ge=0)
    """Class that the model shall predict for images of the source class with the patch."""
    share: float = Field(default=0.05, gt=0, le=1)
    """Poison budget: number of poisons over the number of all images of the client, in (0, 1]; at
    most all images of the class ``target``."""
    size: Count = Field(default=8, ge=1)
    """Side of the square patch in pixels, at least 1."""
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "bottom-right"
    """Corner of the image in which the patch is."""
    restarts: Count = Field(default=1, ge=1)
    """Number of random starts, at least 1; the best result is kept."""
    augment: bool = True
    """Craft through random crops and flips, for victims that augment their images so."""
    retrains: Count = Field(default=0, ge=0)
    """How often an own network is trained anew on the current poisons while they are crafted."""

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source}")
        return self

    def goal(self, test: Shard, common: Stream) -> Goal:
        """Return the test images of the source class with the patch."""
        check_classes(test, self.source, self.target)
        images = self._stamp(test.images[test.labels == self.source])
        wanted = torch.full((len(images),), self.target, device=test.labels.device)
        return Goal(images, wanted, frozenset({(self.source, self.target)}))

    def craft(self, shard: Shard, context: PoisoningContext) -> tuple[Tensor, Tensor]:
        """Choose images of the target class with the steepest gradients and craft them."""
        # These import torch, which reading a scenario does not need.
        from attacks.poisoning.augment import CropAndFlip
        from attacks.poisoning.crafting import CraftSettings
        from attacks.poisoning.selection import choose_steepest
        from attacks.poisoning.sleeper_agent import sleeper_agent
        from fedlab.poisoning.surrogates import surrogates

        count = poison_count(shard, self.share, self.target)
        networks = surrogates(context, shard, self)
        if self.control:  # the control changes the images that these networks choose
            places = choose_steepest(
                networks[0],
                shard.images,
                shard.labels,
                target_class=self.target,
                count=count,
            )
            return places, shard.images[places]
        sources = shard.images[shard.labels == self.source]
        if not len(sources):
            raise ValueError(f"the client has no image of the source class {self.source}")
        crafted = sleeper_agent(
            networks,
            shard.images,
            shard.labels,
            sources=sources,
            target_class=self.target,
            trigger=self._stamp,
            count=count,
            settings=CraftSettings(epsilon=self.epsilon, steps=self.steps, restarts=self.restarts),
            augment=CropAndFlip() if self.augment else None,
            retrain=partial(self._retrain, shard, context) if self.retrains else None,
            retrains=self.retrains,
            generator=context.own(CRAFTING),
        )
        return crafted.chosen, crafted.crafted.images

    def _stamp(self, images: Tensor) -> Tensor:
        from attacks.poisoning.triggers import stamp  # imports torch

        return stamp(images, size=self.size, corner=self.corner)

    def _retrain(self, shard: Shard, context: PoisoningContext, images: Tensor) -> Surrogate:
        from fedlab.poisoning.surrogates import surrogate, train  # imports torch

        network = context.fresh(1)
        train(network, images, shard.labels, context, epochs=self.epochs, number=1)
        return surrogate(network, context)
