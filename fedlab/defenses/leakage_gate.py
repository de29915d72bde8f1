"""Leakage gate: a client attacks its own update before it sends it, and may withhold it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from attacks.knowledge import MOST_IMAGES
from fedlab.core.attack_plugins import PRESETS, preset
from fedlab.core.errors import BadInput
from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense
from fedlab.defenses.pipeline import Withheld
from fedlab.privacy.release import KNOWN, OPEN, PrivacyRelease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attacks.payload import Payload
    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline
    from fedlab.defenses.workload import Workload
    from fedlab.privacy.release import History


class LeakageGate(Defense):
    """Attacks the client's own update, and withholds it if the attack reconstructs an image.

    The attack knows more than a server does: the labels, and the order of the batches. A stronger
    attack may still succeed on updates that pass. The decision depends on the images and so reveals
    something about them: no epsilon covers a round in which the client inspected its update.
    Updates of more images than attacks support are sent without inspection.
    """

    threshold: float = Field(default=20.0)
    """Lowest PSNR in dB at which a reconstructed image counts as leaked."""
    every: Count = Field(default=1, ge=1)
    """Interval n, at least 1: the gate inspects the first participation and every n-th after it."""
    preset: str = "fast"
    """Preset of the attack, which is adapted to the other defenses and knows the labels."""
    iterations: Count = Field(default=100, ge=1)
    """Number of iterations of the attack, at least 1."""

    colour: ClassVar[str] = "#E69F00"
    strengths: ClassVar[tuple[str, ...]] = ("threshold",)
    keeps_guarantees: ClassVar[bool] = True
    inspects_update: ClassVar[bool] = True

    @model_validator(mode="after")
    def _preset_exists(self) -> Self:
        try:
            PRESETS.path(self.preset)
        except BadInput as error:
            raise ValueError(str(error)) from error
        if self.preset == "learned":
            raise ValueError(
                "the client has no simulated clients to train the preset learned on: choose another"
            )
        return self

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Inspect the update before it is sent, in every n-th participation.

        Public numbers alone determine which rounds are inspected. A replay by the referee does not
        inspect again.
        """
        images = pipeline.records // context.epochs
        cost = self._cost(context.round, context.participation, images)
        if context.replay or cost is None:
            return pipeline
        seen: list[Batch] = []

        def inspect(payload: Payload) -> None:
            # The server receives the message, so it must not contain the PSNR.
            if self._leaks(payload, seen, context):
                raise Withheld(
                    f"its own attack on its update reconstructed an image at {self.threshold:g} "
                    "dB or above"
                )

        return pipeline.inspected(inspect, observer=seen.append).charged(cost)

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
        """Return the cost of a round in which the client inspects its update."""
        return self._cost(round, participation, work.records // work.epochs)

    def _cost(self, round: int, participation: int, images: int) -> PrivacyRelease | None:
        """Return the cost of a round; ``None`` if the gate does not inspect its update."""
        if participation % self.every or images > MOST_IMAGES:
            return None
        return PrivacyRelease(round, participation, self.name if self.name in KNOWN else OPEN)

    @property
    def position(self) -> int:
        """Place after everything that changes the update."""
        return 2

    def conflict_before(self, later: Defense) -> str | None:
        """Refuse later changes of the update, since the gate must inspect what is sent."""
        if later.changes_update:
            return (
                f"{self.name} before {later.name}: the gate must inspect the update that is really "
                f"sent; list {self.name} after {later.name}"
            )
        return None

    def _leaks(self, payload: Payload, seen: Sequence[Batch], context: ClientContext) -> bool:
        """True if the attack reconstructs any of the client's images at the threshold or above."""
        from fedlab.metrics.images import psnr

        sources = torch.cat([batch.sources.flatten() for batch in seen])
        if not len(sources):  # an empty Poisson batch
            return False
        own = context.shard.images[torch.unique(sources)].float().div(255)
        return any(
            bool((psnr(own, guess.expand_as(own)) >= self.threshold).any())
            for guess in self._reconstructed(payload, seen, context)
        )

    def _reconstructed(
        self, payload: Payload, seen: Sequence[Batch], context: ClientContext
    ) -> Tensor:
        """Images reconstructed from the payload with known labels and order, in [0, 1]."""
        from attacks.reconstruction import invert
        from attacks.reconstruction.defended import adapted
        from fedlab.defenses.unique_inputs import unique_inputs

        places, order = unique_inputs(seen)
        known = replace(
            context.known,
            num_images=len(places),
            labels=torch.cat([batch.labels for batch in seen])[places],
            order="sequential" if order is None else order,
        )
        attack = replace(preset(self.preset), iterations=self.iterations)
        return invert(
            context.model,
            context.sent,
            payload,
            known,
            adapted(attack, payload, known, sent=context.sent),
            generator=context.stream("leakage gate"),
        ).images
