"""The only one who sees both sides: it rehearses what a client did and scores the attacker.

The Federation calls it, never the server, and nothing that it knows goes back to either.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from attacks.payload import Payload
from attacks.reconstruction import Reconstruction
from fedlab.client.plan import Plan
from fedlab.client.site import Site
from fedlab.client.work import Work, work
from fedlab.defenses.pipeline import Shard
from fedlab.evaluation.chance import baselines
from fedlab.evaluation.features import feature_distance
from fedlab.evaluation.images import identification_auc, identified, match, psnr
from fedlab.evaluation.labels import label_accuracy, soft_label_distance
from fedlab.evaluation.multiscale import ms_ssim
from fedlab.evaluation.registration import registered_psnr
from fedlab.evaluation.similarity import ssim
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
        order: Places in ``inputs`` of the images of each local step, or ``None`` where later
            epochs had inputs of their own, as mixing has.
        payload_cosine: Between the captured update and the rehearsed one.
        signal_cosine: The same with the DP noise taken off both.
    """

    inputs: Tensor
    labels: Tensor
    sources: Tensor
    shard: Shard
    order: tuple[Tensor, ...] | None
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

        Raises:
            ValueError: If the client sent nothing by this plan.
        """
        state = {name: value.to(self._site.device) for name, value in capture.global_state.items()}
        plan = plan.model_copy(update={"history": None})
        done = work(plan, self._site, state, history, keep_trace=True)
        quiet = work(plan, self._site, state, history, noiseless=True)
        sent, again, signal = (
            _update(payload, state) for payload in (capture.payload, done.sent, quiet.sent)
        )
        sources = torch.cat([batch.sources for batch in done.trace])
        once, order = _once(done, mixed=sources.shape[1] > 1)
        return Truth(
            inputs=torch.cat([batch.pixels for batch in done.trace])[once],
            labels=torch.cat([batch.labels for batch in done.trace])[once],
            sources=sources[once],
            shard=done.shard,
            order=order,
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
        order_known: bool = False,
    ) -> Score:
        """Hold rebuilt images against the true ones, matched one to one.

        Against a mixing client there are two scores of the same images: against what its
        network saw (``mixed``), and against the best rebuilt of the k images in each
        (``original``). A true image that no rebuilt one is left for, as when a Poisson batch
        is larger than expected, or those of the other classes where a malicious server fished for
        one, is scored NaN and not shown.
        """
        guess, found = _matched(truth, reconstruction)
        inputs = truth.inputs
        own = _best_source(guess, truth)
        originals = self._site.data.pixels(truth.shard.images[own])
        judge = _Judge(self._site, capture, plan, truth, reconstruction, preset, order_known)
        rows = judge.rows("original", guess, originals, truth.shard.labels[own], own, found)
        if truth.mixed:
            rows += judge.rows("mixed", guess, inputs, truth.labels, own, found)
        return Score(tuple(rows), originals, inputs if truth.mixed else None, guess)


class _OfPixels(nn.Module):
    """The site's network as a function of pixels in [0, 1]."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._normalise, self.network = site.data.normalise, site.model

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network(self._normalise(images.float()))
        return output


@dataclass(frozen=True)
class _Judge:
    """Writes the rows of one reconstruction."""

    site: Site
    capture: Capture
    plan: Plan
    truth: Truth
    reconstruction: Reconstruction
    preset: str
    order_known: bool

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
        ranks = identification_auc(own, guess, shard.images, candidates=same)
        quality, likeness, correct = psnr(true, guess), ssim(true, guess), _agree(found, labels)
        scales, registered = ms_ssim(true, guess), registered_psnr(true, guess)
        self.site.load(self.capture.global_state)
        features = feature_distance(_OfPixels(self.site), true, guess)
        attack = self.reconstruction.attack
        recovered = _label_overlap(found, labels)
        circumstances = setting(
            labels_known=self.reconstruction.labels_known,
            steps=self.capture.payload.steps,
            trained=self.capture.round > 1,
            training_mode=self.plan.training.mode == "train",
            order_known=self.order_known,
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
                ms_ssim=float(scales[index]),
                registered_psnr=float(registered[index]),
                feature_distance=float(features[index]),
                chance_psnr=float(chance.best[index]),
                chance_grey=float(chance.grey[index]),
                chance_class_mean=float(chance.class_mean[index]),
                chance_nearest=float(chance.nearest_other[index]),
                iip=float(hits[index]),
                pool=int(same[index].sum()),
                identification=float(ranks[index]),
                label_correct=bool(correct[index]),
                label_accuracy=recovered,
                known_labels=self.reconstruction.labels_known,
                setting=circumstances.name,
                verdict=verdict(
                    psnr=float(quality[index]),
                    chance_psnr=float(chance.best[index]),
                    identified=bool(hits[index]),
                ),
                objective=attack.objective,
                tv=attack.tv,
                iterations=len(self.reconstruction.costs),
                seconds=self.reconstruction.seconds,
                payload_cosine=self.truth.payload_cosine,
                signal_cosine=self.truth.signal_cosine,
                threat=self.capture.announced.threat,
            )
            for index in range(len(true))
        ]


def _once(done: Work, *, mixed: bool) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """Where each image first stands in all batches together, and the batches by those images."""
    members = torch.cat([batch.members for batch in done.trace])
    if mixed:
        return torch.arange(min(len(members), len(done.shard)), device=members.device), None
    place = torch.full((len(done.shard),), -1, device=members.device)
    first: list[int] = []
    for position, member in enumerate(members.tolist()):
        if place[member] < 0:
            place[member] = len(first)
            first.append(position)
    once = torch.tensor(first, dtype=torch.int64, device=members.device)
    return once, tuple(place[batch.members] for batch in done.trace)


def _matched(truth: Truth, reconstruction: Reconstruction) -> tuple[Tensor, Tensor]:
    """A rebuilt image and its label for every true one; NaN and -1 where none is left."""
    rebuilt = reconstruction.images.to(truth.inputs.device)
    labels = reconstruction.labels.to(rebuilt.device)
    places, chosen = match(truth.inputs, rebuilt)
    guess = torch.full_like(truth.inputs, torch.nan)
    found = labels.new_full((len(truth.inputs), *labels.shape[1:]), -1)
    guess[places], found[places] = rebuilt[chosen], labels[chosen]
    return guess, found


def _best_source(guess: Tensor, truth: Truth) -> Tensor:
    """Place in the shard of the image in each input that its guess is nearest to."""
    sources = truth.sources
    images = truth.shard.images[sources].float().div(255)  # [n, k, channels, height, width]
    distance = (images - guess.unsqueeze(1)).flatten(2).norm(dim=2)
    return sources.gather(1, distance.argmin(1, keepdim=True)).squeeze(1)


def _label_overlap(found: Tensor, true: Tensor) -> float:
    """How much of the batch's labels was found, in whatever order; of mixtures, of their sum."""
    if true.is_floating_point():
        soft = found if found.is_floating_point() else one_hot(found.clamp(min=0), true.shape[1])
        return 1 - soft_label_distance(soft.float(), true) / 2
    hard = found.argmax(1) if found.is_floating_point() else found[found >= 0]
    return label_accuracy(hard, true)


def _agree(found: Tensor, true: Tensor) -> Tensor:
    """Whether each label was found; of a mixture, whether its label is one of those mixed.

    Images that nothing was rebuilt of have the label -1.
    """
    hard = found.argmax(1) if found.is_floating_point() else found
    if true.is_floating_point():
        share = true.gather(1, hard.clamp(min=0).unsqueeze(1)).squeeze(1)
        return (share > 0) & (hard >= 0)
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
