"""The only one who sees both sides: it knows what clients did and scores the attacker.

The Federation calls it, never the server, and nothing that it knows goes back to either.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from attacks.reconstruction import Reconstruction
from attacks.reconstruction.components import name_of
from fedlab.client.federated_data import FederatedData
from fedlab.evaluation.replay import Truth
from fedlab.metrics.chance import baselines
from fedlab.metrics.features import feature_distance
from fedlab.metrics.images import identification_auc, identified, match, psnr
from fedlab.metrics.labels import label_accuracy, soft_label_distance
from fedlab.metrics.multiscale import ms_ssim
from fedlab.metrics.registration import registered_psnr
from fedlab.metrics.similarity import ssim
from fedlab.metrics.verdict import setting, verdict
from fedlab.protocol.task import ClientTask
from fedlab.results.rows import LeakageRow
from fedlab.server.captures import Capture


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
    """Holds what an attacker rebuilt against the truth.

    Args:
        federated: The clients' images, and a network to compare features with.
    """

    def __init__(self, federated: FederatedData) -> None:
        self._site = federated

    def score(
        self,
        capture: Capture,
        tasks: Mapping[int, ClientTask],
        truth: Truth,
        reconstruction: Reconstruction,
        *,
        preset: str,
        order_known: bool = False,
    ) -> Score:
        """Hold rebuilt images against the true ones, matched one to one.

        Where a defense changed the images there are two scores of the same ones: against what the
        network saw (``mixed``, or ``changed`` where each is of one image alone), and against the
        image before (``original``), of a mixture the best rebuilt of its k. A true image that no
        rebuilt one is left for, as when a Poisson batch is larger than expected, or those of the
        other classes where a malicious server fished for one, is scored NaN and not shown.
        """
        guess, found = _matched(truth, reconstruction)
        inputs = truth.inputs
        own = _best_source(guess, truth)
        originals = self._site.data.pixels(truth.shard.images[own])
        judge = _Judge(self._site, capture, tasks, truth, reconstruction, preset, order_known)
        rows = judge.rows("original", guess, originals, truth.shard.labels[own], own, found)
        if truth.mixed or truth.changed:
            target = "mixed" if truth.mixed else "changed"
            rows += judge.rows(target, guess, inputs, truth.labels, own, found)
        return Score(tuple(rows), originals, inputs if truth.mixed else None, guess)


class _OfPixels(nn.Module):
    """The federated's network as a function of pixels in [0, 1]."""

    def __init__(self, federated: FederatedData) -> None:
        super().__init__()
        self._normalise, self.network = federated.data.normalise, federated.model

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network(self._normalise(images.float()))
        return output


@dataclass(frozen=True)
class _Judge:
    """Writes the rows of one reconstruction."""

    federated: FederatedData
    capture: Capture
    tasks: Mapping[int, ClientTask]
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
        shard, data = self.truth.shard, self.federated.data
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
        self.federated.load(self.capture.global_state)
        features = feature_distance(_OfPixels(self.federated), true, guess)
        attack = self.reconstruction.attack
        recovered = _label_overlap(found, labels)
        circumstances = setting(
            labels_known=self.reconstruction.labels_known,
            steps=self.capture.payload.steps,
            trained=self.capture.round > 1,
            training_mode=self.capture.announced.training_mode,
            order_known=self.order_known,
        )
        owners = [self.tasks[client] for client in self.truth.owners.tolist()]
        return [
            LeakageRow(
                round=self.capture.round,
                client=owner.client,
                role=owner.role.role,
                defenses=owner.defense_names,
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
                objective=name_of(attack.objective),
                tv=attack.tv,
                iterations=len(self.reconstruction.costs),
                seconds=self.reconstruction.seconds,
                payload_cosine=self.truth.payload_cosine,
                signal_cosine=self.truth.signal_cosine,
                threat=self.capture.announced.threat,
                reasons=", ".join(circumstances.reasons),
            )
            for index, owner in enumerate(owners)
        ]


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
