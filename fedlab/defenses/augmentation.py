"""The base class of defenses that change every image by itself and keep its label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline

PixelChange = Callable[["Tensor"], "Tensor"]
"""Changes float32 ``[b, channels, height, width]`` in [0, 1]; every call draws anew."""


class Augmentation(Defense):
    """A random change of every image by itself; no privacy guarantee."""

    keeps_guarantees: ClassVar[bool] = True
    draws_each_round: ClassVar[bool] = True

    @abstractmethod
    def pixel_change(self, context: ClientContext, generator: Generator) -> PixelChange:
        """The change of pixels.

        Args:
            context: The client's round; says how the network takes pixels.
            generator: CPU generator of the random draws.
        """

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Change a batch after all changes that are made to it already."""
        change = self.pixel_change(context, context.stream(self.name))

        def transform(batch: Batch) -> Batch:
            batch = pipeline.transform(batch)
            return replace(batch, pixels=change(batch.pixels))

        return replace(pipeline, transform=transform)
