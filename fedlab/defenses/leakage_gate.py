"""The leakage gate: a client attacks its own update before sending, and may withhold it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from attacks.knowledge import MOST_IMAGES
from fedlab.core.attack_plugins import PRESETS, preset
from fedlab.core.errors import BadInput
from fedlab.core.lazy import torch
from fedlab.defenses.base import Defense
from fedlab.defenses.pipeline import Withheld
from fedlab.privacy.release import PrivacyRelease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attacks.payload import Payload
    from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline


class LeakageGate(Defense):
    """The client attacks its own update, and withholds it if it can rebuild its images from it.

    The client gives the attack more than a server has: the labels, and the order of its batches. A
    stronger attack than its own may still succeed on what passes. The decision depends on the
    images and so reveals something about them itself: no epsilon covers a round in which the
    client looked. Updates of more images than anyone attacks pass without a look.
    """

    threshold: float = Field(default=20.0)
    """PSNR in dB from which on an image counts as leaked."""
    every: int = Field(default=1, ge=1)
    """Attack in the client's first participation and in every n-th participation after it."""
    preset: str = "fast"
    """Preset of the attack, which knows the labels and adapts to the other defenses."""
    iterations: int = Field(default=100, ge=1)
    """Iterations of the attack."""

    colour: ClassVar[str] = "#E69F00"
    keeps_guarantees: ClassVar[bool] = True
    inspects_update: ClassVar[bool] = True

    @model_validator(mode="after")
    def _preset_exists(self) -> Self:
        try:
            PRESETS.path(self.preset)
        except BadInput as error:
            raise ValueError(str(error)) from error
        return self

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Inspect the update that is about to be sent, in every n-th participation.

        Whether there is a look depends on public numbers only. A replay by the Referee does not
        look again.
        """
        images = pipeline.records // context.epochs
        looks = context.participation % self.every == 0 and images <= MOST_IMAGES
        if context.replay or not looks:
            return pipeline
        seen: list[Batch] = []

        def inspect(payload: Payload) -> None:
            # The message goes to the server, so it does not say how close the attack came.
            if self._leaks(payload, seen, context):
                raise Withheld(
                    f"its own attack on its update rebuilt an image at {self.threshold:g} dB or "
                    "above"
                )

        return pipeline.inspected(inspect, observer=seen.append).charged(
            PrivacyRelease(context.round, context.participation, self.name)
        )

    @property
    def position(self) -> int:
        """After everything that changes the update."""
        return 2

    def conflict_before(self, later: Defense) -> str | None:
        """The gate has to judge what is really sent."""
        if later.changes_update:
            return (
                f"{self.name} before {later.name}: the gate has to judge what is really sent; "
                f"list {self.name} after {later.name}"
            )
        return None

    def _leaks(self, payload: Payload, seen: Sequence[Batch], context: ClientContext) -> bool:
        """Whether any of the client's images comes out at the threshold or above."""
        from fedlab.metrics.images import psnr

        sources = torch.cat([batch.sources.flatten() for batch in seen])
        if not len(sources):  # an empty Poisson batch
            return False
        own = context.shard.images[torch.unique(sources)].float().div(255)
        return any(
            bool((psnr(own, guess.expand_as(own)) >= self.threshold).any())
            for guess in self._rebuilt(payload, seen, context)
        )

    def _rebuilt(self, payload: Payload, seen: Sequence[Batch], context: ClientContext) -> Tensor:
        """What an attacker makes of the payload who knows labels and order, as pixels."""
        from attacks.reconstruction import invert
        from attacks.reconstruction.defended import adapted
        from fedlab.defenses.unique_inputs import first_seen

        places, order = first_seen(seen)
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
