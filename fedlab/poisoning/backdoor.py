"""The base class of backdoors whose trigger is visible on training images."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.data.shard import Shard
from fedlab.poisoning.base import DataPoison
from fedlab.poisoning.context import Goal, chance_pairs, check_classes

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import PoisoningContext, Stream


class BackdoorPoison(DataPoison):
    """Puts a trigger on some training images, so that the model predicts the target with it.

    A subclass implements ``stamp``. The attack succeeds on a test image of another class if the
    model predicts the target once the trigger is on it.
    """

    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the client's images that get the trigger, in (0, 1]."""
    target: Count = Field(default=0, ge=0)
    """Class that the model shall predict for images with the trigger."""

    @abstractmethod
    def stamp(self, images: Tensor, common: Stream, *, client: int | None) -> Tensor:
        """Return copies of the images with the trigger on them.

        Args:
            images: Images, uint8 ``[n, channels, height, width]``.
            common: Random generators that all clients and the test share.
            client: Partition id of the client; ``None`` for the test images, which get the
                whole trigger.

        Raises:
            ValueError: If the trigger does not fit the images.
        """

    @property
    def relabels(self) -> bool:
        """True if images of every class get the trigger and the target label.

        Otherwise only images of the target class get the trigger, and all labels stay right.
        """
        return True

    @property
    def couples_images(self) -> bool:
        """True if a share of the images is chosen: another image would change the choice."""
        return self.share < 1

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """Return the shard with the trigger on a share of its images."""
        from attacks.poisoning.backdoor import backdoor  # imports torch

        images, labels = backdoor(
            shard.images,
            shard.labels,
            target=self.target,
            share=self.share,
            trigger=lambda images: self.stamp(images, context.common, client=context.client),
            relabel=self.relabels,
            generator=context.own("poison"),
        )
        return Shard(images, labels, shard.num_classes)

    def goal(self, test: Shard, common: Stream) -> Goal:
        """Return the test images of all other classes with the trigger, wanted as the target."""
        check_classes(test, self.target)
        others = test.labels != self.target
        shown = self.stamp(test.images[others], common, client=None)
        wanted = torch.full_like(test.labels[others], self.target)
        return Goal(shown, wanted, chance_pairs(self.target, test))
