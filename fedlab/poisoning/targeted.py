"""Poisons after which one test image is taken for another class."""

from typing import assert_never

import torch
from torch import Tensor

from attacks.poisoning.augment import CropAndFlip
from attacks.poisoning.colour import Colour
from attacks.poisoning.crafting import Brewing
from attacks.poisoning.gradient_matching import match_gradients
from attacks.poisoning.meta_settings import MetaPoisoning
from attacks.poisoning.metapoison import meta_poison
from attacks.poisoning.selection import choose
from attacks.poisoning.surrogate import Surrogate
from fedlab.data.shard import Shard
from fedlab.poisoning.context import Goal, PoisoningContext, Stream, check_classes, mistaken_for
from fedlab.poisoning.crafting import Poisons, brewed, count
from fedlab.poisoning.settings import GradientMatching, MetaPoison
from fedlab.poisoning.surrogates import surrogate, surrogates


class TargetedPoison:
    """Witches' Brew and MetaPoison: success is the target image predicted as intended."""

    def __init__(self, settings: GradientMatching | MetaPoison) -> None:
        self.settings = settings

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """The shard with poisons of the intended class in it."""
        return brewed(shard, context, self.settings, lambda: self._made(shard, context))

    def goal(self, test: Shard, common: Stream) -> Goal:
        """The target image."""
        check_classes(test, self.settings.target)
        place = self._aim(test, common)
        wanted = torch.full_like(test.labels[:1], self.settings.target)
        chance = mistaken_for(self.settings.target, test)
        return Goal(test.images[place : place + 1], wanted, chance)

    def _aim(self, test: Shard, common: Stream) -> int:
        """Place of the target image among the test images."""
        if self.settings.image is None:
            others = (test.labels != self.settings.target).nonzero().squeeze(1)
            if not len(others):
                raise ValueError(f"all test images are of class {self.settings.target} already")
            drawn = torch.randint(len(others), (1,), generator=common("aim"))
            return int(others[drawn.to(others.device)])
        if self.settings.image >= len(test):
            raise ValueError(f"names test image {self.settings.image} of {len(test)}")
        if int(test.labels[self.settings.image]) == self.settings.target:
            raise ValueError(
                f"test image {self.settings.image} is of class {self.settings.target} already"
            )
        return self.settings.image

    def _made(self, shard: Shard, context: PoisoningContext) -> Poisons:
        settings = self.settings
        places = choose(
            shard.labels,
            target_class=settings.target,
            count=count(shard, settings.share, settings.target),
            generator=context.own("poison"),
        )
        if settings.control:
            return places, shard.images[places]
        goal = self.goal(context.test, context.common)
        match settings:
            case GradientMatching():
                return places, _matched(settings, shard, places, goal, context)
            case MetaPoison():
                return places, _looked_ahead(settings, shard, places, goal, context)
            case _:
                assert_never(settings)


def _matched(
    settings: GradientMatching, shard: Shard, places: Tensor, goal: Goal, context: PoisoningContext
) -> Tensor:
    return match_gradients(
        surrogates(context, shard, settings, count=settings.ensemble),
        shard.images[places],
        shard.labels[places],
        targets=goal.images,
        intended=goal.wanted,
        settings=Brewing(
            epsilon=settings.epsilon, steps=settings.steps, restarts=settings.restarts
        ),
        augment=CropAndFlip() if settings.augment else None,
        generator=context.own("brewing"),
    ).images


def _looked_ahead(
    settings: MetaPoison, shard: Shard, places: Tensor, goal: Goal, context: PoisoningContext
) -> Tensor:
    def start(number: int) -> Surrogate:
        own = settings.against == "own"
        return surrogate(context.fresh(number) if own else context.model, context)

    how = context.training
    return meta_poison(
        start,
        shard.images,
        shard.labels,
        places=places,
        targets=goal.images,
        intended=goal.wanted,
        settings=MetaPoisoning(
            epsilon=settings.epsilon,
            colour=Colour(bound=settings.colour) if settings.colour else None,
            crafts=settings.steps,
            rate=settings.rate,
            warmup=0,
            unrolled=settings.unroll,
            models=settings.ensemble,
            epochs=settings.epochs,
            lr=how.lr,
            weight_decay=how.weight_decay,
            batch_size=min(how.batch_size, len(shard)),
            poisons_per_batch=min(max(1, how.batch_size // 5), len(places)),
        ),
        generator=context.own("brewing"),
    ).images
