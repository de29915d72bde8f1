"""Weight check: a client examines the weights that it was sent, and may send nothing back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense
from fedlab.defenses.pipeline import Withheld
from fedlab.privacy.release import OPEN, PrivacyRelease

if TYPE_CHECKING:
    from attacks.payload import Payload
    from fedlab.defenses.pipeline import ClientContext, Pipeline
    from fedlab.defenses.workload import Workload
    from fedlab.metrics.received_weights import WeightReading
    from fedlab.privacy.release import History


FEWEST = 8
"""Smallest number of images on which weights are examined: of fewer, one soon dominates."""

USUAL = 32
"""Number of images for which the limits are stated."""


class WeightCheck(Defense):
    """Withholds the update if the weights that the server sent look manipulated.

    It detects networks with an imprint block, suppressed gradients, trap weights (on 32 images of
    its own), and class fishing where few of the images are of the class (``python -m benchmarks
    weight_check``). A server that knows the limits can stay below them. The decision depends on the
    client's images, so no epsilon covers the round. A client with fewer than 8 images does not
    examine the weights.
    """

    images: Count = Field(default=32, ge=FEWEST)
    """Number of the client's images that the check looks at, at least 8; all if it has fewer."""
    most_dsnr: float = Field(default=0.3, gt=0)
    """Largest accepted D-SNR of 32 images: the gradient norm of one over the sum of all others'.
    For n images the limit is 31 / (n - 1) times as high, as D-SNR is. In honest training of small
    networks 95 % were below 0.15 (``python -m benchmarks weight_check``)."""
    most_idle: float = Field(default=0.5, ge=0, le=1)
    """Largest accepted share of a layer's units that react to none or to one of the images. Of
    fewer than 32 images units may miss most by chance: then those that react to none and those
    that react to one count by themselves."""
    most_copies: float = Field(default=0.5, ge=0, le=1)
    """Largest accepted share of a layer's units whose weights are a multiple of another's."""

    colour: ClassVar[str] = "#661100"
    keeps_guarantees: ClassVar[bool] = True
    inspects_update: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Examine the weights when the update is about to be sent.

        A replay by the referee does not examine them again.
        """
        cost = PrivacyRelease(context.round, context.participation, OPEN)
        if context.replay or len(context.shard) < FEWEST:
            return pipeline

        def inspect(_: Payload) -> None:
            if reason := self.suspicion(context):
                raise Withheld(reason)

        return replace(pipeline, inspections=(*pipeline.inspections, inspect)).charged(cost)

    def suspicion(self, context: ClientContext) -> str | None:
        """Return why the weights look manipulated; ``None`` if they do not.

        The server receives the sentence, so it contains no measured number.
        """
        from fedlab.metrics.received_weights import read_weights

        shard = context.shard
        order = torch.randperm(len(shard), generator=context.stream("weight check"))
        places = order[: self.images].to(shard.images.device)
        found = read_weights(
            context.model,
            context.sent,
            context.network_input(shard.images[places].float().div(255)),
            shard.labels[places],
        )
        return self.reason(found, images=len(places))

    def reason(self, found: WeightReading, *, images: int) -> str | None:
        """Return which limit a reading of some images exceeds, as a sentence; ``None`` if none."""
        if found.dsnr > self.most_dsnr * (USUAL - 1) / (images - 1):
            return "under the weights it was sent one image would dominate its update"
        idle = found.idle if images >= USUAL else max(found.silent, found.single)
        if idle > self.most_idle:
            return "under the weights it was sent most units of a layer react to one image or none"
        if found.copies > self.most_copies:
            return "in the weights it was sent most units of a layer are copies of each other"
        return None

    def expected_release(
        self,
        work: Workload,
        *,
        round: int,
        participation: int,
        images: int,
        values: int,
        history: History = (),
    ) -> PrivacyRelease | None:
        """Return the cost of a round in which the client examines the weights."""
        return PrivacyRelease(round, participation, OPEN) if images >= FEWEST else None

    @property
    def position(self) -> int:
        """Place before secure aggregation, beside other inspections."""
        return 2
