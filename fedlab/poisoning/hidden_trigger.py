"""A backdoor whose trigger no training image shows."""

from functools import partial

import torch
from torch import Tensor

from attacks.poisoning.augment import CropAndFlip
from attacks.poisoning.crafting import Brewing
from attacks.poisoning.selection import choose_steepest
from attacks.poisoning.sleeper_agent import sleeper_agent
from attacks.poisoning.surrogate import Surrogate
from attacks.poisoning.triggers import stamp
from fedlab.data.shard import Shard
from fedlab.poisoning.context import Goal, PoisoningContext, Stream, check_classes
from fedlab.poisoning.crafting import Poisons, brewed, count
from fedlab.poisoning.settings import HiddenTrigger
from fedlab.poisoning.surrogates import surrogate, surrogates, train


class PlantHiddenTrigger:
    """Sleeper Agent: success is a stamped test image of the source class taken for the target."""

    def __init__(self, settings: HiddenTrigger) -> None:
        self.settings = settings

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """The shard with poisons of the target class in it."""
        return brewed(shard, context, self.settings, lambda: self._made(shard, context))

    def goal(self, test: Shard, common: Stream) -> Goal:
        """The test images of the source class with the patch."""
        check_classes(test, self.settings.source, self.settings.target)
        images = self._patch(test.images[test.labels == self.settings.source])
        wanted = torch.full((len(images),), self.settings.target, device=test.labels.device)
        return Goal(images, wanted, frozenset({(self.settings.source, self.settings.target)}))

    def _patch(self, images: Tensor) -> Tensor:
        return stamp(images, size=self.settings.size, corner=self.settings.corner)

    def _made(self, shard: Shard, context: PoisoningContext) -> Poisons:
        settings = self.settings
        poisons = count(shard, settings.share, settings.target)
        networks = surrogates(context, shard, settings)
        if settings.control:  # of the same images, which are those that these networks choose
            places = choose_steepest(
                networks[0],
                shard.images,
                shard.labels,
                target_class=settings.target,
                count=poisons,
            )
            return places, shard.images[places]
        sources = shard.images[shard.labels == settings.source]
        if not len(sources):
            raise ValueError(f"the client has no image of the source class {settings.source}")
        made = sleeper_agent(
            networks,
            shard.images,
            shard.labels,
            sources=sources,
            target_class=settings.target,
            trigger=self._patch,
            count=poisons,
            settings=Brewing(
                epsilon=settings.epsilon, steps=settings.steps, restarts=settings.restarts
            ),
            augment=CropAndFlip() if settings.augment else None,
            retrain=partial(self._retrained, shard, context) if settings.retrains else None,
            retrains=settings.retrains,
            generator=context.own("brewing"),
        )
        return made.chosen, made.brewed.images

    def _retrained(self, shard: Shard, context: PoisoningContext, images: Tensor) -> Surrogate:
        network = context.fresh(1)
        train(network, images, shard.labels, context, epochs=self.settings.epochs, number=1)
        return surrogate(network, context)
