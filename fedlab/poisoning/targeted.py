"""The base class of poisons after which one test image is predicted as another class."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.poisoning.context import Goal, chance_pairs, check_classes
from fedlab.poisoning.crafting import CraftedPoison, poison_count

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import PoisoningContext, Stream


class TargetedPoison(CraftedPoison):
    """Crafts images of one class so that the model predicts that class for one test image.

    A subclass implements ``craft_images``.
    """

    image: Count | None = Field(default=None, ge=0)
    """Index of the target image among the test images; by default one of another class is drawn
    by seed."""
    target: Count = Field(default=0, ge=0)
    """Class that the model shall predict for the target image."""
    share: float = Field(default=0.05, gt=0, le=1)
    """Poison budget: number of poisons over the number of all images of the client, in (0, 1]; at
    most all images of the class ``target``."""

    @abstractmethod
    def craft_images(
        self, shard: Shard, places: Tensor, goal: Goal, context: PoisoningContext
    ) -> Tensor:
        """Return the poisoned images, uint8 ``[p, channels, height, width]``.

        Args:
            shard: The client's clean images and labels.
            places: Indices of the images to poison, int64 ``[p]``.
            goal: The target image and the class wanted for it.
            context: Network, training settings and random generators.
        """

    def goal(self, test: Shard, common: Stream) -> Goal:
        """Return the target image and the class wanted for it."""
        check_classes(test, self.target)
        place = self._target_image(test, common)
        wanted = torch.full_like(test.labels[:1], self.target)
        return Goal(test.images[place : place + 1], wanted, chance_pairs(self.target, test))

    def craft(self, shard: Shard, context: PoisoningContext) -> tuple[Tensor, Tensor]:
        """Choose images of the target class and craft them."""
        from attacks.poisoning.selection import choose  # imports torch

        places = choose(
            shard.labels,
            target_class=self.target,
            count=poison_count(shard, self.share, self.target),
            generator=context.own("poison"),
        )
        if self.control:
            return places, shard.images[places]
        goal = self.goal(context.test, context.common)
        return places, self.craft_images(shard, places, goal, context)

    def _target_image(self, test: Shard, common: Stream) -> int:
        if self.image is None:
            others = (test.labels != self.target).nonzero().squeeze(1)
            if not len(others):
                raise ValueError(f"all test images are of class {self.target} already")
            drawn = torch.randint(len(others), (1,), generator=common("aim"))
            return int(others[drawn.to(others.device)])
        if self.image >= len(test):
            raise ValueError(f"image is {self.image}, but there are only {len(test)} test images")
        if int(test.labels[self.image]) == self.target:
            raise ValueError(f"test image {self.image} is of class {self.target} already")
        return self.image
