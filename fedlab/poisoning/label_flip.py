"""Images that are trained on under a wrong label."""

from dataclasses import replace

from torch import Tensor

from attacks.poisoning.label_flip import flip, label_flip
from fedlab.data.shard import Shard
from fedlab.poisoning.context import Goal, PoisoningContext, Stream, check_classes, mistaken_for
from fedlab.poisoning.settings import LabelFlip


class WrongLabels:
    """Label flipping: success is a test image predicted as its wrong label."""

    def __init__(self, settings: LabelFlip) -> None:
        self.settings = settings

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """The shard with other labels."""
        labels = label_flip(
            shard.labels,
            num_classes=shard.num_classes,
            share=self.settings.share,
            pairs=self._pairs,
            random=self.settings.random,
            generator=context.own("poison"),
        )
        return replace(shard, labels=labels)

    def goal(self, test: Shard, common: Stream) -> Goal | None:
        """The images whose label would change, and that label."""
        check_classes(test, *(label for pair in self._pairs for label in pair))
        if self.settings.random:
            return None
        wrong: Tensor = flip(test.labels, num_classes=test.num_classes, pairs=self._pairs)
        changed = wrong != test.labels
        flips = set(zip(test.labels[changed].tolist(), wrong[changed].tolist(), strict=True))
        every = frozenset().union(*(mistaken_for(target, test) for _, target in flips))
        return Goal(test.images[changed], wrong[changed], every - flips)

    @property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        if self.settings.source is not None and self.settings.target is not None:
            return ((self.settings.source, self.settings.target),)
        return self.settings.pairs
