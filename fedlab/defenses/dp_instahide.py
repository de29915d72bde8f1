"""DP-InstaHide at a client: each image becomes a mixture of k, and noise is added.

Borgnia et al., "DP-InstaHide: Provably Defusing Poisoning and Backdoor Attacks with
Differentially Private Data Augmentations" (arXiv 2103.02079).
"""

import hashlib
import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.data.shard import Shard
from fedlab.defenses.partners import Ahead, distinct, skipping
from fedlab.defenses.pipeline import (
    Batch,
    ClientContext,
    Pipeline,
    Transform,
    shuffled,
    single,
    unchanged,
)
from fedlab.defenses.pixel_noise import add_noise
from fedlab.defenses.settings import DPInstaHide
from fedlab.defenses.weights import dirichlet
from fedlab.privacy import instahide
from fedlab.privacy.release import PrivacyRelease

AT_ONCE = 64
"""Frozen mixtures made together: of more the k images of each outgrow the processor's caches."""


class MixAndNoise:
    """DP-InstaHide as a defense of one round.

    It mixes anew in every epoch, each image of a batch with partners from the whole shard, or
    trains on a set of mixtures that was made once and never changes.
    """

    def __init__(self, settings: DPInstaHide) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the mixing after whatever the pipeline does to an image already.

        Raises:
            ValueError: If the client holds fewer than k images.
        """
        n = len(context.shard)
        if n < self.settings.k:
            raise ValueError(
                f"dp-instahide mixes k = {self.settings.k} images, but the client holds {n}"
            )
        if self.settings.frozen is not None:
            return self._frozen(pipeline, context, records=self.settings.frozen)
        return self._fresh(pipeline, context)

    def _fresh(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        n, k = len(context.shard), self.settings.k
        # A round that is run again is another release: its noise must not cancel out.
        again = f"{context.participation} {self._what}"
        chosen, drawn = context.stream(f"partners {again}"), context.stream(f"mixing noise {again}")
        others = Ahead(lambda count: distinct(count, k - 1, out_of=n - 1, generator=chosen))
        weights = self._weights(context.stream(f"weights {again}"))

        def held(members: Tensor) -> Batch:
            partners = skipping(others(len(members)), members)
            sources = torch.cat([members.unsqueeze(1), partners], dim=1)
            return self._noisy(sources, context.shard, pipeline.transform, weights, drawn)

        epsilon = self._epsilon(
            context.shard,
            records=pipeline.records,
            own_records=min(pipeline.records, context.epochs),
        )
        return replace(pipeline, held=held, transform=unchanged).charged(
            self._spending(context, steps=pipeline.records, epsilon=epsilon)
        )

    def _frozen(self, pipeline: Pipeline, context: ClientContext, *, records: int) -> Pipeline:
        """Train on mixtures of k images each, drawn from the shard without replacement."""
        # Another shard (poisoned from some round on) is another set, with noise of its own.
        key = f"frozen {self._what} {_fingerprint(context.shard)}"
        chosen, drawn = context.lasting(f"{key} partners"), context.lasting(f"{key} noise")
        n, k = len(context.shard), self.settings.k
        sources = distinct(records, k, out_of=n, generator=chosen).to(context.shard.images.device)
        weights = self._weights(context.lasting(f"{key} weights"))
        parts = [
            self._noisy(part, context.shard, pipeline.transform, weights, drawn)
            for part in torch.split(sources, AT_ONCE)
        ]
        pixels = torch.cat([part.pixels for part in parts])
        labels = torch.cat([part.labels for part in parts])
        size = min(pipeline.batch_size, records)
        order = context.stream("batches")
        epsilon = self._epsilon(context.shard, records=records)
        return replace(
            pipeline,
            sampler=single(records, batch_size=size, generator=order)
            if context.leaking
            else shuffled(records, batch_size=size, epochs=context.epochs, generator=order),
            held=lambda places: Batch(places, sources[places], pixels[places], labels[places]),
            transform=unchanged,
            batch_size=size,
            batches=1 if context.leaking else context.epochs * -(-records // size),
            records=size if context.leaking else context.epochs * records,
        ).charged(
            # The server lacks the seed that the name is drawn by: a hash would tell of the images.
            self._spending(
                context,
                steps=records,
                epsilon=epsilon,
                release=f"{int(torch.randint(2**62, (), generator=context.lasting(key))):x}",
            )
        )

    def _weights(self, generator: torch.Generator) -> Ahead | None:
        """Random weights of mixtures; ``None`` for equal ones."""
        chosen = self.settings
        if chosen.weights == "equal":
            return None
        return Ahead(
            lambda count: dirichlet(
                count, chosen.k, alpha=chosen.alpha, cap=chosen.cap, generator=generator
            )
        )

    def _noisy(
        self,
        sources: Tensor,
        shard: Shard,
        before: Transform,
        weights: Ahead | None,
        drawn: torch.Generator,
    ) -> Batch:
        shares = None if weights is None else weights(len(sources))
        mixed = mix(sources, shard, weights=shares, before=before)
        noisy = add_noise(
            mixed.pixels, self.settings.noise, scale=self.settings.scale, generator=drawn
        )
        return replace(mixed, pixels=noisy)

    @property
    def _what(self) -> str:
        return self.settings.model_dump_json(exclude={"rounds", "clients"})

    def _epsilon(
        self, shard: Shard, *, records: int, own_records: int | None = None
    ) -> float | None:
        """The formal epsilon of so many mixtures; Gaussian noise has none without a delta.

        Args:
            shard: What was mixed.
            records: How many mixtures were made.
            own_records: How many of them from each image with partners; ``None`` where all k
                images of a mixture were drawn.
        """
        if self.settings.noise != "laplace":
            return None
        weight = None
        if self.settings.weights == "dirichlet":
            weight = 1.0 if self.settings.cap is None else self.settings.cap
        n, diameter = len(shard), float(shard.images[0].numel())
        if own_records is None:
            return instahide.epsilon(
                n=n,
                k=self.settings.k,
                sigma=self.settings.scale,
                diameter=diameter,
                records=records,
                largest_weight=weight,
            )
        return instahide.epsilon_own_plus_partners(
            n=n,
            k=self.settings.k,
            sigma=self.settings.scale,
            diameter=diameter,
            records=records,
            own_records=own_records,
            largest_weight=weight,
        )

    def _spending(
        self,
        context: ClientContext,
        *,
        steps: int,
        epsilon: float | None,
        release: str | None = None,
    ) -> PrivacyRelease:
        return PrivacyRelease(
            round=context.round,
            participation=context.participation,
            mechanism="dp-instahide",
            steps=steps,
            epsilon=epsilon,
            release=release,
        )


def mix(sources: Tensor, shard: Shard, *, weights: Tensor | None, before: Transform) -> Batch:
    """Weighted means of images and labels of a shard.

    Args:
        sources: int64 ``[b, k]``, the images of each mixture by their places in the shard.
        shard: Where they come from.
        weights: float32 ``[b, k]``, rows summing to 1; ``None`` for 1/k each.
        before: Changes every image by itself before it is mixed, and no label.

    Returns:
        The mixtures, started from the first image of each, with labels float32 ``[b, classes]``.
    """
    flat = sources.flatten()
    levels, labels = shard.images.index_select(0, flat).float(), shard.labels[flat]
    if weights is None:
        weights = torch.full(sources.shape, 1 / sources.shape[1])
    weights = weights.to(levels.device)
    if before is unchanged:  # the k images need no pass of their own through their pixels
        pixels = _weighted(levels, weights / 255)
    else:
        each = before(Batch(flat, flat.unsqueeze(1), levels.div_(255), labels))
        pixels = _weighted(each.pixels, weights)
    one_hot = functional.one_hot(labels, shard.num_classes).float()
    return Batch(sources[:, 0], sources, pixels, _weighted(one_hot, weights))


def _weighted(parts: Tensor, weights: Tensor) -> Tensor:
    """Sums of every k of ``[b k, ...]``, weighted by ``[b, k]``; the products are the fast way."""
    flat = parts.reshape(*weights.shape, math.prod(parts.shape[1:]))
    return torch.bmm(weights.unsqueeze(1), flat).view(len(weights), *parts.shape[1:])


def _fingerprint(shard: Shard) -> str:
    found = hashlib.sha256()
    for part in (shard.images, shard.labels):
        found.update(part.cpu().contiguous().numpy().data)
    return found.hexdigest()
