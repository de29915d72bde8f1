"""Base class of augmentations: defenses that change every image by itself and keep its label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline

PixelChange = Callable[["Tensor"], "Tensor"]
"""A random change of pixels, float32 ``[b, channels, height, width]`` in [0, 1]."""


class Augmentation(Defense):
    """A random change of every image by itself, without a privacy guarantee."""

    keeps_guarantees: ClassVar[bool] = True
    draws_each_round: ClassVar[bool] = True

    @abstractmethod
    def pixel_change(self, context: ClientContext, generator: Generator) -> PixelChange:
        """Create the change of pixels for a client's round; each call of it draws anew.

        Args:
            context: The client's round.
            generator: CPU generator of the random draws.
        """

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Change the pixels of a batch after its earlier changes."""
        change = self.pixel_change(context, context.stream(self.name))
        return pipeline.transforming(lambda batch: replace(batch, pixels=change(batch.pixels)))
