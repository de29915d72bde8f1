"""Triggers that are stamped on training images and later on test images."""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
from torch import Tensor

from attacks.poisoning.backdoor import backdoor
from attacks.poisoning.triggers import bars, blend, noise_pattern, sinusoid, stamp
from fedlab.data.shard import Shard
from fedlab.poisoning.context import Goal, PoisoningContext, Stream, check_classes, mistaken_for
from fedlab.poisoning.settings import BadNets, Blended, Distributed, Sinusoidal

Trigger = Callable[[Tensor], Tensor]
"""Puts a trigger on uint8 images, into new ones."""

PARTS = 4
"""Of a distributed trigger."""

Settings = BadNets | Blended | Sinusoidal | Distributed


class Backdoor:
    """Success is a triggered test image of another class predicted as the target."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """The shard with triggered images in it."""
        images, labels = backdoor(
            shard.images,
            shard.labels,
            target=self.settings.target,
            share=self.settings.share,
            trigger=self._stamped(shard.images, context),
            relabel=not isinstance(self.settings, Sinusoidal) or self.settings.relabel,
            generator=context.own("poison"),
        )
        return Shard(images, labels, shard.num_classes)

    def goal(self, test: Shard, common: Stream) -> Goal:
        """The triggered images of other classes; counted in, the target's own would all succeed."""
        check_classes(test, self.settings.target)
        others = test.labels != self.settings.target
        images = test.images[others]
        shown = trigger(self.settings, images, common, part=None)(images)
        wanted = torch.full_like(test.labels[others], self.settings.target)
        return Goal(shown, wanted, mistaken_for(self.settings.target, test))

    def _stamped(self, images: Tensor, context: PoisoningContext) -> Trigger:
        alone = isinstance(self.settings, Distributed) and self.settings.parts == "own"
        part = context.client % PARTS if alone else None
        return trigger(self.settings, images, context.common, part=part)


def trigger(settings: Settings, images: Tensor, common: Stream, *, part: int | None) -> Trigger:
    """How a trigger is put on images.

    Args:
        settings: Which one.
        images: Those it is for; their shape counts.
        common: Draws the pattern of a blended trigger, the same for all clients and the test.
        part: Of a distributed trigger; ``None`` is all of it.
    """
    match settings:
        case BadNets():
            return partial(stamp, size=settings.size, corner=settings.corner)
        case Blended():
            shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
            pattern = noise_pattern(shape, generator=common("blended pattern"))
            return partial(blend, pattern=pattern.to(images.device), alpha=settings.alpha)
        case Sinusoidal():
            return partial(sinusoid, amplitude=settings.amplitude, frequency=settings.frequency)
        case Distributed():
            return partial(bars, part=part)
        case _:
            assert_never(settings)
