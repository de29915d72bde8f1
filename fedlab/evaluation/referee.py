"""The only one who sees both sides: it rehearses what a client did and scores the attacker.

The Federation calls it, never the server, and nothing that it knows goes back to either.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.payload import Payload
from attacks.reconstruction import Reconstruction
from fedlab.client.plan import Plan
from fedlab.client.site import Site
from fedlab.client.work import work
from fedlab.defenses.pipeline import Shard
from fedlab.evaluation.chance import baselines
from fedlab.evaluation.images import identified, match, psnr, ssim
from fedlab.evaluation.verdict import setting, verdict
from fedlab.privacy.spending import History
from fedlab.runs.rows import LeakageRow
from fedlab.server.captures import Capture


@dataclass(frozen=True)
class Truth:
    """What a client really fed to its network in a round, n images in the order of its batches.

    Attributes:
        inputs: float32 ``[n, channels, height, width]`` in [0, 1], as the network saw them.
        labels: int64 ``[n]``, or soft ``[n, classes]`` where they were mixed.
        sources: int64 ``[n, k]``, the places in the shard of the images in each input.
        shard: All of the client's images.
        payload_cosine: Between the captured update and the rehearsed one.
        signal_cosine: The same with the DP noise taken off both.
    """

    inputs: Tensor
    labels: Tensor
    sources: Tensor
    shard: Shard
    payload_cosine: float
    signal_cosine: float

    @property
    def mixed(self) -> bool:
        """Whether an input is a mixture of several images."""
        return self.labels.is_floating_point()


@dataclass(frozen=True)
class Score:
    """A scored reconstruction; images in the order of the rows of one target.

    Attributes:
        rows: One for each true image and target.
        originals: The true images; of a mixture the one that was rebuilt best.
        mixed: What the network saw, where that is a mixture.
        rebuilt: What the attacker made of each.
    """

    rows: tuple[LeakageRow, ...]
    originals: Tensor
    mixed: Tensor | None
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
        # Every image once, however many epochs went over it.
        once = slice(len(done.shard))
        return Truth(
            inputs=torch.cat([batch.pixels for batch in done.trace])[once],
            labels=torch.cat([batch.labels for batch in done.trace])[once],
            sources=torch.cat([batch.sources for batch in done.trace])[once],
            shard=done.shard,
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
        network saw (``mixed``), and against the best rebuilt of the k images in each
        (``original``).
        """
        guess = reconstruction.images.to(truth.inputs.device)
        order, chosen = match(truth.inputs, guess)
        guess, inputs = guess[chosen], truth.inputs[order]
        own = _best_source(guess, truth, order)
        originals = self._site.data.pixels(truth.shard.images[own])
        found = reconstruction.labels.to(guess.device)[chosen]
        judge = _Judge(self._site, capture, plan, truth, reconstruction, preset)
        rows = judge.rows("original", guess, originals, truth.shard.labels[own], own, found)
        if truth.mixed:
            rows += judge.rows("mixed", guess, inputs, truth.labels[order], own, found)
        return Score(tuple(rows), originals, inputs if truth.mixed else None, guess)


@dataclass(frozen=True)
class _Judge:
    """Writes the rows of one reconstruction."""

    site: Site
    capture: Capture
    plan: Plan
    truth: Truth
    reconstruction: Reconstruction
    preset: str

    def rows(
        self,
        target: str,
        guess: Tensor,
        true: Tensor,
        labels: Tensor,
        own: Tensor,
        found: Tensor,
    ) -> list[LeakageRow]:
        shard, data = self.truth.shard, self.site.data
        chance = baselines(
            true,
            labels,
            reference_images=data.test_images,
            reference_labels=data.test_labels,
            pool=shard.images,
            own=own,
        )
        same = shard.labels[own].unsqueeze(1) == shard.labels
        hits = identified(own, guess, shard.images, candidates=same)
        quality, likeness, correct = psnr(true, guess), ssim(true, guess), _agree(found, labels)
        circumstances = setting(
            labels_known=self.reconstruction.labels_known,
            steps=self.capture.payload.steps,
            trained=self.capture.round > 1,
            training_mode=True,
        )
        return [
            LeakageRow(
                round=self.capture.round,
                client=self.plan.client,
                role=self.plan.role.role,
                defenses=self.plan.defense_names,
                preset=self.preset,
                image=index,
                target=target,
                psnr=float(quality[index]),
                ssim=float(likeness[index]),
                chance_psnr=float(chance.best[index]),
                chance_grey=float(chance.grey[index]),
                chance_class_mean=float(chance.class_mean[index]),
                chance_nearest=float(chance.nearest_other[index]),
                iip=float(hits[index]),
                pool=int(same[index].sum()),
                label_correct=bool(correct[index]),
                known_labels=self.reconstruction.labels_known,
                setting=circumstances.name,
                verdict=verdict(
                    psnr=float(quality[index]),
                    chance_psnr=float(chance.best[index]),
                    identified=bool(hits[index]),
                ),
                iterations=self.reconstruction.attack.iterations,
                seconds=self.reconstruction.seconds,
                payload_cosine=self.truth.payload_cosine,
                signal_cosine=self.truth.signal_cosine,
            )
            for index in range(len(true))
        ]


def _best_source(guess: Tensor, truth: Truth, order: Tensor) -> Tensor:
    """Place in the shard of the image in each input that its guess is nearest to."""
    sources = truth.sources[order]
    images = truth.shard.images[sources].float().div(255)  # [n, k, channels, height, width]
    distance = (images - guess.unsqueeze(1)).flatten(2).norm(dim=2)
    return sources.gather(1, distance.argmin(1, keepdim=True)).squeeze(1)


def _agree(found: Tensor, true: Tensor) -> Tensor:
    """Whether each label was found; of a mixture, whether its label is one of those mixed."""
    hard = found.argmax(1) if found.is_floating_point() else found
    if true.is_floating_point():
        return true.gather(1, hard.unsqueeze(1)).squeeze(1) > 0
    return hard == true


def _update(payload: Payload, state: Mapping[str, Tensor]) -> Tensor:
    """A payload as one vector: the gradient, or the change of the weights."""
    parts = [
        tensor.to(state[name].device)
        if payload.kind == "gradient"
        else tensor.to(state[name].device) - state[name]
        for name, tensor in sorted(payload.tensors.items())
    ]
    return torch.cat([part.flatten().double() for part in parts])


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one, other) / (one.norm() * other.norm()))
