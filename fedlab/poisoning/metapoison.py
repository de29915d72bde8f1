"""MetaPoison: poisons crafted through some steps of the victim's training (arXiv 2004.00225)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fedlab.core.settings import Count
from fedlab.poisoning.crafting import CRAFTING
from fedlab.poisoning.targeted import TargetedPoison

if TYPE_CHECKING:
    from torch import Tensor

    from attacks.poisoning.surrogate import Surrogate
    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import Goal, PoisoningContext


class MetaPoison(TargetedPoison):
    """Lowers the target's loss after some SGD steps of the victim on the poisons."""

    epsilon: float = Field(default=8 / 255, gt=0, le=1)
    """Largest change of a pixel, in (0, 1] where pixels are in [0, 1]."""
    steps: Count = Field(default=60, ge=1)
    """Optimisation steps of crafting, at least 1."""
    unroll: Count = Field(default=2, ge=1)
    """Number of SGD steps through which the effect of the poisons is differentiated, at least 1."""
    ensemble: Count = Field(default=8, ge=1)
    """Number of networks, at least 1, each at another stage of a training run of ``epochs``
    epochs; they go on training while the poisons are crafted."""
    rate: float = Field(default=1.0, gt=0)
    """First step size of Adam in units of epsilon, above 0; the authors' code has 25."""
    colour: float = Field(default=0.0, ge=0, le=0.2)
    """Largest shift of a colour by a smooth remapping besides epsilon, in [0, 0.2]; the paper has
    0.04."""

    def craft_images(
        self, shard: Shard, places: Tensor, goal: Goal, context: PoisoningContext
    ) -> Tensor:
        """Return the poisoned images."""
        # These import torch, which reading a scenario does not need.
        from attacks.poisoning.colour import Colour
        from attacks.poisoning.meta_settings import MetaPoisoning
        from attacks.poisoning.metapoison import meta_poison
        from fedlab.poisoning.surrogates import surrogate

        def start(number: int) -> Surrogate:
            own = self.against == "own"
            return surrogate(context.fresh(number) if own else context.model, context)

        training = context.training
        return meta_poison(
            start,
            shard.images,
            shard.labels,
            places=places,
            targets=goal.images,
            intended=goal.wanted,
            settings=MetaPoisoning(
                epsilon=self.epsilon,
                colour=Colour(bound=self.colour) if self.colour else None,
                crafts=self.steps,
                rate=self.rate,
                warmup=0,
                unrolled=self.unroll,
                models=self.ensemble,
                epochs=self.epochs,
                lr=training.lr,
                weight_decay=training.weight_decay,
                batch_size=min(training.batch_size, len(shard)),
                poisons_per_batch=min(max(1, training.batch_size // 5), len(places)),
            ),
            generator=context.own(CRAFTING),
        ).images
