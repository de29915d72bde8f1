"""Images from which little can be learned that holds for others."""

import torch

from attacks.poisoning.availability import adversarial_poisons, misalign_training
from attacks.poisoning.crafting import Brewing
from fedlab.data.shard import Shard
from fedlab.poisoning.context import Goal, PoisoningContext, Stream
from fedlab.poisoning.crafting import Poisons, brewed
from fedlab.poisoning.settings import Availability
from fedlab.poisoning.surrogates import surrogates

STEP = 0.05
"""Of PGD in its 250 steps, over epsilon (arXiv 2106.10807, its public code)."""

ACROSS = 2.5
"""Steps together, over epsilon, where there are fewer: from one side of the ball to the other."""

TOGETHER = 100
"""Images whose gradient is aligned together: fewer are aligned better, and take more time."""


class MisleadTraining:
    """Availability poisons: success is lost accuracy, so no label in particular is wanted."""

    def __init__(self, settings: Availability) -> None:
        self.settings = settings

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """The shard with changed images, all of them unless told otherwise."""
        return brewed(shard, context, self.settings, lambda: self._made(shard, context))

    def goal(self, test: Shard, common: Stream) -> Goal | None:
        """None: it is measured by accuracy."""
        return None

    def _made(self, shard: Shard, context: PoisoningContext) -> Poisons:
        settings = self.settings
        order = torch.randperm(len(shard), generator=context.own("poison"))
        places = order[: max(1, round(settings.share * len(shard)))].to(shard.labels.device)
        images, labels = shard.images[places], shard.labels[places]
        if settings.control:
            return places, images
        networks, drawn = surrogates(context, shard, settings), context.own("brewing")
        if settings.method == "alignment":
            how = Brewing(epsilon=settings.epsilon, steps=settings.steps, restarts=1)
            made = misalign_training(
                networks, images, labels, settings=how, partition=TOGETHER, generator=drawn
            )
        else:
            how = Brewing(
                epsilon=settings.epsilon,
                steps=settings.steps,
                restarts=1,
                lr=max(STEP, ACROSS / settings.steps) * settings.epsilon,
                rule="pgd",
            )
            made = adversarial_poisons(
                networks,
                images,
                labels,
                num_classes=shard.num_classes,
                settings=how,
                generator=drawn,
            )
        return places, made.images
