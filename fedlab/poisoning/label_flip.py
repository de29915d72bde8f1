"""Label flipping: some images are trained on under a wrong label."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from fedlab.core.settings import Count
from fedlab.poisoning.base import DataPoison
from fedlab.poisoning.context import Goal, chance_pairs, check_classes

if TYPE_CHECKING:
    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import PoisoningContext, Stream


class LabelFlip(DataPoison):
    """Gives images wrong labels: ``C - 1 - y`` by default, chosen pairs, or random labels.

    The attack succeeds on a test image if the model predicts its wrong label.
    """

    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the affected images that get the wrong label, in (0, 1]."""
    source: Count | None = Field(default=None, ge=0)
    """Class that is relabelled as ``target``; all other images keep their labels."""
    target: Count | None = Field(default=None, ge=0)
    """Label that images of the class ``source`` get."""
    pairs: tuple[tuple[int, int], ...] = ()
    """Several pairs of a class and its wrong label; other classes keep their labels."""
    random: bool = False
    """Draw a wrong label for every image. No success rate is measured then, only accuracy."""

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if (self.source is None) != (self.target is None):
            raise ValueError("give both source and target, or neither")
        if (self.source is not None) + bool(self.pairs) + self.random > 1:
            raise ValueError("source and target, pairs, and random exclude each other")
        if self.source is not None and self.source == self.target:
            raise ValueError(f"source and target are both {self.source}")
        if same := [source for source, target in self.pairs if source == target]:
            raise ValueError(f"pairs relabels class {same[0]} as itself")
        return self

    @property
    def couples_images(self) -> bool:
        """True if a share of the images is chosen: another image would change the choice."""
        return self.share < 1

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """Return the shard with wrong labels."""
        from attacks.poisoning.label_flip import label_flip  # imports torch

        labels = label_flip(
            shard.labels,
            num_classes=shard.num_classes,
            share=self.share,
            pairs=self._flips,
            random=self.random,
            generator=context.own("poison"),
        )
        return replace(shard, labels=labels)

    def goal(self, test: Shard, common: Stream) -> Goal | None:
        """Return the test images whose label changes, and their wrong labels."""
        from attacks.poisoning.label_flip import flip  # imports torch

        check_classes(test, *(label for pair in self._flips for label in pair))
        if self.random:
            return None
        wrong = flip(test.labels, num_classes=test.num_classes, pairs=self._flips)
        changed = wrong != test.labels
        flips = set(zip(test.labels[changed].tolist(), wrong[changed].tolist(), strict=True))
        every = frozenset().union(*(chance_pairs(target, test) for _, target in flips))
        return Goal(test.images[changed], wrong[changed], every - flips)

    @property
    def _flips(self) -> tuple[tuple[int, int], ...]:
        if self.source is not None and self.target is not None:
            return ((self.source, self.target),)
        return self.pairs
