"""The leakage gate: a client attacks its own update before it is sent, and may keep it back."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from attacks.knowledge import MOST_IMAGES
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, invert
from attacks.reconstruction.defended import adapted
from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline, Withheld
from fedlab.defenses.settings import LeakageGate
from fedlab.defenses.unique_inputs import first_seen
from fedlab.metrics.images import psnr
from fedlab.privacy.release import PrivacyRelease


class GateLeakage:
    """The leakage gate as a defense of one round.

    The client gives the attack more than a server has: the labels, and the order of its batches. A
    stronger attack than its own may still succeed on what passes.
    """

    def __init__(self, settings: LeakageGate) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Look at what is about to be sent, in every so-manieth participation.

        Whether there is a look depends on public numbers only. The Referee does not look again.
        """
        images = pipeline.records // context.epochs
        looks = context.participation % self.settings.every == 0 and images <= MOST_IMAGES
        if context.rehearsal or not looks:
            return pipeline
        seen: list[Batch] = []

        def inspect(payload: Payload) -> None:
            # How near it came is not told: the message goes to the server.
            if self._leaks(payload, seen, context):
                raise Withheld(
                    "its own attack on its update rebuilt an image at "
                    f"{self.settings.threshold:g} dB or above"
                )

        return pipeline.inspected(inspect, observer=seen.append).charged(
            PrivacyRelease(context.round, context.participation, "leakage-gate")
        )

    def _leaks(self, payload: Payload, seen: Sequence[Batch], context: ClientContext) -> bool:
        """Whether any of the client's images comes out at the threshold or above."""
        sources = torch.cat([batch.sources.flatten() for batch in seen])
        if not len(sources):  # an empty Poisson batch
            return False
        own = context.shard.images[torch.unique(sources)].float().div(255)
        return any(
            bool((psnr(own, guess.expand_as(own)) >= self.settings.threshold).any())
            for guess in self._rebuilt(payload, seen, context)
        )

    def _rebuilt(self, payload: Payload, seen: Sequence[Batch], context: ClientContext) -> Tensor:
        """What an attacker makes of the payload who knows labels and order, as pixels."""
        places, order = first_seen(seen)
        known = replace(
            context.known,
            num_images=len(places),
            labels=torch.cat([batch.labels for batch in seen])[places],
            order="sequential" if order is None else order,
        )
        attack = replace(PRESETS[self.settings.preset], iterations=self.settings.iterations)
        return invert(
            context.model,
            context.sent,
            payload,
            known,
            adapted(attack, payload, known, sent=context.sent),
            generator=context.stream("leakage gate"),
        ).images
