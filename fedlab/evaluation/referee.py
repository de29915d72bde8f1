"""The only one who sees both sides: it rehearses what a client did and scores the attacker.

The Federation calls it, never the server, and nothing that it knows goes back to either.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from attacks.payload import Payload
from attacks.reconstruction import Reconstruction
from fedlab.client.plan import Plan
from fedlab.client.site import Site
from fedlab.client.work import Work, work
from fedlab.evaluation.chance import baselines
from fedlab.evaluation.images import identified, match, psnr, ssim
from fedlab.evaluation.verdict import setting, verdict
from fedlab.privacy.spending import History
from fedlab.runs.rows import LeakageRow
from fedlab.server.captures import Capture


@dataclass(frozen=True)
class Truth:
    """What a client really fed to its network in a round.

    Attributes:
        originals: float32 ``[n, channels, height, width]``, its images in [0, 1], in the order
            in which its batches used them.
        labels: int64 ``[n]``.
        members: int64 ``[n]``, their places in its shard.
        mixed: What the network saw where a defense mixed them, else ``None``.
        mixed_labels: float32 ``[n, classes]``, likewise.
        shard: All of its images, uint8.
        shard_labels: Their labels.
        payload_cosine: Between the captured update and the rehearsed one.
        signal_cosine: The same with the DP noise taken off both.
    """

    originals: Tensor
    labels: Tensor
    members: Tensor
    mixed: Tensor | None
    mixed_labels: Tensor | None
    shard: Tensor
    shard_labels: Tensor
    payload_cosine: float
    signal_cosine: float


@dataclass(frozen=True)
class Score:
    """A scored reconstruction.

    Attributes:
        rows: One for each true image.
        truth: The true images in the order of the rows.
        rebuilt: What was rebuilt of each, in the same order.
    """

    rows: tuple[LeakageRow, ...]
    truth: Tensor
    rebuilt: Tensor


class Referee:
    """Re-derives true batches from the seed.

    Args:
        site: The clients' images; rehearsals use its network, as the clients do.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def truth(self, capture: Capture, plan: Plan, history: History) -> Truth:
        """Rehearse a client's round.

        Args:
            capture: What the server saw of it.
            plan: Its orders.
            history: Its accountant history *before* the round, which keys its noise.
        """
        state = {name: value.to(self._site.device) for name, value in capture.global_state.items()}
        plan = plan.model_copy(update={"history": None})
        done = work(plan, self._site, state, history, keep_trace=True)
        quiet = work(plan, self._site, state, history, noiseless=True)
        sent, again, signal = (
            _update(payload, state) for payload in (capture.payload, done.payload, quiet.payload)
        )
        # Images that a second epoch repeats count once.
        seen = torch.cat([batch.members for batch in done.trace])[: len(done.shard)]
        pixels = torch.cat([batch.pixels for batch in done.trace])[: len(done.shard)]
        labels = torch.cat([batch.labels for batch in done.trace])[: len(done.shard)]
        is_mixed = labels.is_floating_point()
        return Truth(
            originals=self._site.data.pixels(done.shard.images[seen]),
            labels=done.shard.labels[seen],
            members=seen,
            mixed=pixels if is_mixed else None,
            mixed_labels=labels if is_mixed else None,
            shard=done.shard.images,
            shard_labels=done.shard.labels,
            payload_cosine=_cosine(sent, again),
            signal_cosine=_cosine(sent - (again - signal), signal),
        )

    def score(
        self,
        capture: Capture,
        plan: Plan,
        truth: Truth,
        reconstruction: Reconstruction,
        *,
        preset: str,
    ) -> Score:
        """Hold rebuilt images against the true ones, matched one to one.

        Against a mixing client there are two scores of the same images: against what its
        network saw (``mixed``) and against the images mixed (``original``).
        """
        guess = reconstruction.images.to(truth.originals.device)
        targets = [("original", truth.originals)]
        if truth.mixed is not None:
            targets.append(("mixed", truth.mixed))
        rows: list[LeakageRow] = []
        kept: tuple[Tensor, Tensor] | None = None
        for target, images in targets:
            true_order, guess_order = match(images, guess)
            rows += self._rows(
                capture, plan, truth, reconstruction, preset, target, images, true_order, guess_order
            )
            if target == "mixed" or truth.mixed is None:
                kept = images[true_order], guess[guess_order]
        assert kept is not None
        return Score(tuple(rows), *kept)
