"""DP-InstaHide at a client: each image becomes a mixture of k, and noise is added.

Borgnia et al., "DP-InstaHide: Provably Defusing Poisoning and Backdoor Attacks with
Differentially Private Data Augmentations" (arXiv 2103.02079).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedlab.core.lazy import torch
from fedlab.defenses.base import Defense
from fedlab.defenses.partners import Ahead, distinct, skipping
from fedlab.defenses.pipeline import Batch, shuffled, single, unchanged
from fedlab.defenses.pixel_noise import add_noise
from fedlab.defenses.weights import dirichlet
from fedlab.privacy import instahide
from fedlab.privacy.accounts import IMAGE, Account

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.data.shard import Shard
    from fedlab.defenses.pipeline import ClientContext, Pipeline, Transform
    from fedlab.privacy.release import History

AT_ONCE = 64
"""Frozen mixtures made together: of more the k images of each outgrow the processor's caches."""


class DPInstaHide(Defense):
    """DP-InstaHide: k-way mixup of images and labels plus noise (Borgnia et al. 2021).

    It mixes anew in every epoch, each image of a batch with partners from the whole shard, or
    trains on a set of mixtures that was made once and never changes.
    """

    k: int = Field(default=4, ge=1)
    """Images mixed into one."""
    weights: Literal["equal", "dirichlet"] = "equal"
    """Weights of 1/k each, the case that the analysis covers, or random weights, which earn no
    factor k."""
    alpha: float = Field(default=1.0, gt=0)
    """Concentration of Dirichlet weights, which are drawn for each mixture."""
    cap: float | None = Field(default=None, gt=0, le=1)
    """Largest Dirichlet weight, at least 1/k; capped weights earn the factor 1/cap."""
    noise: Literal["laplace", "gaussian"] = "laplace"
    """Distribution of the noise on each pixel; only Laplace noise has a formal epsilon."""
    scale: float = Field(default=16 / 255, ge=0)
    """Laplace scale or Gaussian standard deviation, on pixels in [0, 1]."""
    frozen: int | None = Field(default=None, ge=1)
    """Number of records to mix once and train on in every round, instead of mixing anew; they cost
    their epsilon once. Each is of k images drawn without replacement."""

    colour: ClassVar[str] = "#009E73"
    account: ClassVar[Account] = IMAGE
    keeps_guarantees: ClassVar[bool] = True
    mixes_images: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_cap(self) -> Self:
        if self.cap is not None and self.weights == "equal":
            raise ValueError('a cap goes with weights = "dirichlet": equal weights are 1/k')
        if self.cap is not None and self.cap * self.k < 1:
            raise ValueError(f"{self.k} weights of at most {self.cap} do not sum to 1")
        return self

    @property
    def position(self) -> int:
        """A frozen set comes before augmentation, which would change it in every round."""
        return 1 if self.frozen is None else 0

    @property
    def mixture_size(self) -> int:
        """The setting ``k``."""
        return self.k

    def facts(self, history: History) -> dict[str, Any]:
        """The number of images in each mixture, where their weights are equal."""
        return {"mixture_size": self.k if self.weights == "equal" else None}

    def conflict_after(self, earlier: Defense) -> str | None:
        """A frozen set must not be made from images that change in every round."""
        if self.frozen is not None and earlier.draws_each_round:
            return (
                f"{earlier.name} before {self.name} with a frozen set: the set has to be the same "
                f"in every round, or it costs its epsilon again, but {earlier.name} draws anew; "
                f"list {earlier.name} after it, where it changes noisy mixtures only, or leave "
                "frozen out"
            )
        return None

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put the mixing after whatever the pipeline does to an image already.

        Raises:
            ValueError: If the client holds fewer than k images.
        """
        n = len(context.shard)
        if n < self.k:
            raise ValueError(f"{self.name} mixes k = {self.k} images, but the client holds {n}")
        if self.frozen is not None:
            return self._frozen(pipeline, context, records=self.frozen)
        return self._fresh(pipeline, context)

    def _fresh(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        n, k = len(context.shard), self.k
        # A round that is run again is another release: its noise must not cancel out.
        again = f"{context.participation} {self._settings_key}"
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
            self.release(context, steps=pipeline.records, epsilon=epsilon)
        )

    def _frozen(self, pipeline: Pipeline, context: ClientContext, *, records: int) -> Pipeline:
        """Train on mixtures of k images each, drawn from the shard without replacement."""
        # Another shard (poisoned from some round on) is another set, with noise of its own.
        key = f"frozen {self._settings_key} {_fingerprint(context.shard)}"
        chosen, drawn = context.lasting(f"{key} partners"), context.lasting(f"{key} noise")
        n, k = len(context.shard), self.k
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
            self.release(
                context,
                steps=records,
                epsilon=epsilon,
                release=f"{int(torch.randint(2**62, (), generator=context.lasting(key))):x}",
            )
        )

    def _weights(self, generator: Generator) -> Ahead | None:
        """Random weights of mixtures; ``None`` for equal ones."""
        if self.weights == "equal":
            return None
        return Ahead(
            lambda count: dirichlet(
                count, self.k, alpha=self.alpha, cap=self.cap, generator=generator
            )
        )

    def _noisy(
        self,
        sources: Tensor,
        shard: Shard,
        before: Transform,
        weights: Ahead | None,
        drawn: Generator,
    ) -> Batch:
        shares = None if weights is None else weights(len(sources))
        mixed = mix(sources, shard, weights=shares, before=before)
        noisy = add_noise(mixed.pixels, self.noise, scale=self.scale, generator=drawn)
        return replace(mixed, pixels=noisy)

    @property
    def _settings_key(self) -> str:
        """The settings as text, by which the random streams are keyed."""
        return self.model_dump_json(exclude={"rounds", "clients"})

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
        if self.noise != "laplace":
            return None
        weight = None
        if self.weights == "dirichlet":
            weight = 1.0 if self.cap is None else self.cap
        n, diameter = len(shard), float(shard.images[0].numel())
        if own_records is None:
            return instahide.epsilon(
                n=n,
                k=self.k,
                sigma=self.scale,
                diameter=diameter,
                records=records,
                largest_weight=weight,
            )
        return instahide.epsilon_own_plus_partners(
            n=n,
            k=self.k,
            sigma=self.scale,
            diameter=diameter,
            records=records,
            own_records=own_records,
            largest_weight=weight,
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
    one_hot = torch.nn.functional.one_hot(labels, shard.num_classes).float()
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
