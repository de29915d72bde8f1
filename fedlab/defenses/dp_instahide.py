"""DP-InstaHide: training on mixtures of k images with noise.

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
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense
from fedlab.defenses.partners import Ahead, distinct, skipping
from fedlab.defenses.pipeline import Batch, shuffled, single, unchanged
from fedlab.defenses.pixel_noise import add_noise
from fedlab.defenses.weights import dirichlet
from fedlab.defenses.workload import Workload
from fedlab.privacy import instahide
from fedlab.privacy.accounts import IMAGE, Account

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.data.shard import Shard
    from fedlab.defenses.pipeline import ClientContext, Pipeline, Transform
    from fedlab.privacy.release import History, PrivacyRelease

AT_ONCE = 64
"""Number of frozen mixtures computed together, so that their images fit the processor's caches."""


class DPInstaHide(Defense):
    """DP-InstaHide: mixup of k images and their labels, plus noise (Borgnia et al. 2021).

    Each image of a batch is mixed anew in every epoch with partners from the whole shard; or the
    client trains on a set of mixtures that is made once and never changes (``frozen``).
    """

    k: Count = Field(default=4, ge=1)
    """Number of images in a mixture, at least 1."""
    weights: Literal["equal", "dirichlet"] = "equal"
    """Weights of the images in a mixture: ``equal`` weights 1/k, which the paper's analysis covers,
    or random ``dirichlet`` weights, which do not reduce epsilon unless they are capped."""
    alpha: float = Field(default=1.0, gt=0)
    """Concentration, above 0, of Dirichlet weights, which are drawn for each mixture."""
    cap: float | None = Field(default=None, gt=0, le=1)
    """Largest Dirichlet weight, from 1/k to 1, which reduces epsilon. Without it, no cap."""
    noise: Literal["laplace", "gaussian"] = "laplace"
    """Distribution of the noise on each pixel; only Laplace noise has a formal epsilon."""
    scale: float = Field(default=16 / 255, ge=0)
    """Laplace scale or Gaussian standard deviation, at least 0, for pixels in [0, 1]."""
    frozen: Count | None = Field(default=None, ge=1)
    """Number of mixtures that are made once and trained on in every round, each of k images drawn
    without replacement; their epsilon counts once. Without it, images are mixed anew."""

    colour: ClassVar[str] = "#009E73"
    strengths: ClassVar[tuple[str, ...]] = ("k", "noise", "scale")
    account: ClassVar[Account] = IMAGE
    keeps_guarantees: ClassVar[bool] = True
    mixes_images: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_cap(self) -> Self:
        if self.cap is not None and self.weights == "equal":
            raise ValueError('a cap needs weights = "dirichlet": equal weights are 1/k')
        if self.cap is not None and self.cap * self.k < 1:
            raise ValueError(
                f"{self.k} weights of at most {self.cap} cannot sum to 1: set cap to 1/k or more"
            )
        return self

    @property
    def position(self) -> int:
        """Place of a frozen set before augmentation, which would change it in every round."""
        return 1 if self.frozen is None else 0

    @property
    def mixture_size(self) -> int:
        """The setting ``k``."""
        return self.k

    def facts(self, history: History) -> dict[str, Any]:
        """Return the number of images in each mixture, if their weights are equal."""
        return {"mixture_size": self.k if self.weights == "equal" else None}

    def conflict_after(self, earlier: Defense) -> str | None:
        """Refuse a frozen set of images that change in every round."""
        if self.frozen is not None and earlier.draws_each_round:
            return (
                f"{earlier.name} before {self.name} with a frozen set: the set must be the same in "
                f"every round, or it costs its epsilon again, but {earlier.name} draws anew; list "
                f"{earlier.name} after it, where it changes noisy mixtures only, or leave frozen "
                "out"
            )
        return None

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Mix images after the earlier changes of each image.

        Raises:
            ValueError: If the client has fewer than k images.
        """
        n = len(context.shard)
        if n < self.k:
            raise ValueError(
                f"{self.name} mixes k = {self.k} images, but the client has {n}: set a smaller k"
            )
        if self.frozen is not None:
            return self._frozen(pipeline, context, records=self.frozen)
        return self._fresh(pipeline, context)

    def _fresh(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        n, k = len(context.shard), self.k
        # A repeated round is another release, whose noise must be independent.
        key = f"{context.participation} {self._settings_key}"
        chosen, drawn = context.stream(f"partners {key}"), context.stream(f"mixing noise {key}")
        others = Ahead(lambda count: distinct(count, k - 1, out_of=n - 1, generator=chosen))
        weights = self._weights(context.stream(f"weights {key}"))

        def held(members: Tensor) -> Batch:
            partners = skipping(others(len(members)), members)
            sources = torch.cat([members.unsqueeze(1), partners], dim=1)
            return self._noisy(sources, context.shard, pipeline.transform, weights, drawn)

        epsilon = self._fresh_epsilon(
            context.shard.images[0].numel(), records=pipeline.records, epochs=context.epochs
        )
        return replace(pipeline, held=held, transform=unchanged).charged(
            self.release(context, steps=pipeline.records, epsilon=epsilon)
        )

    def _frozen(self, pipeline: Pipeline, context: ClientContext, *, records: int) -> Pipeline:
        """Train on a frozen set of mixtures of k images each, drawn without replacement."""
        # Another shard, such as a poisoned one, gives another set with its own noise.
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
        work = Workload(
            *(pipeline.batch_size, pipeline.batches, pipeline.records),
            *(context.epochs, context.poisson, context.leaking),
        ).over(records)
        size, order = work.batch_size, context.stream("batches")
        epsilon = self._epsilon(context.shard.images[0].numel(), records=records)
        return replace(
            pipeline,
            sampler=single(records, batch_size=size, generator=order)
            if context.leaking
            else shuffled(records, batch_size=size, epochs=context.epochs, generator=order),
            held=lambda places: Batch(places, sources[places], pixels[places], labels[places]),
            transform=unchanged,
            batch_size=size,
            batches=work.steps,
            records=work.records,
        ).charged(
            # The name is random, and the server lacks its seed; a hash would reveal the images.
            self.release(
                context,
                steps=records,
                epsilon=epsilon,
                release=f"{int(torch.randint(2**62, (), generator=context.lasting(key))):x}",
            )
        )

    def _weights(self, generator: Generator) -> Ahead | None:
        """Create a buffer of random weights of mixtures; ``None`` for equal weights."""
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
        """The settings as text, which is part of the names of random streams."""
        return self.model_dump_json(exclude={"rounds", "clients"})

    def reworked(self, work: Workload) -> Workload:
        """Return the local steps on the frozen set, if there is one."""
        return work if self.frozen is None else work.over(self.frozen)

    def expected_release(
        self,
        work: Workload,
        *,
        round: int,
        participation: int,
        images: int,
        values: int,
        history: History = (),
    ) -> PrivacyRelease:
        """Return the cost of a round; any name may stand for that of a frozen set."""
        if self.frozen is not None:
            epsilon = self._epsilon(values, records=self.frozen)
            return self.entry(
                round, participation, steps=self.frozen, epsilon=epsilon, release="any"
            )
        epsilon = self._fresh_epsilon(values, records=work.records, epochs=work.epochs)
        return self.entry(round, participation, steps=work.records, epsilon=epsilon)

    def _fresh_epsilon(self, values: int, *, records: int, epochs: int) -> float | None:
        """Compute the formal epsilon of a round in which every record is mixed anew."""
        # Labels show which classes were mixed, so any image may be known to be in every mixture.
        inside = records if self.k > 1 else min(records, epochs)
        return self._epsilon(values, records=inside)

    def _epsilon(self, values: int, *, records: int) -> float | None:
        """Compute the formal epsilon of mixtures; ``None`` for Gaussian noise.

        Args:
            values: Number of values in an image.
            records: Largest number of mixtures that one image can be in.
        """
        if self.noise != "laplace":
            return None
        weight = None
        if self.weights == "dirichlet":
            weight = 1.0 if self.cap is None else self.cap
        return instahide.epsilon(
            k=self.k,
            sigma=self.scale,
            diameter=float(values),
            records=records,
            largest_weight=weight,
        )


def mix(sources: Tensor, shard: Shard, *, weights: Tensor | None, before: Transform) -> Batch:
    """Compute weighted means of images and labels of a shard.

    Args:
        sources: Shard indices of the images in each mixture, int64 ``[b, k]``.
        shard: Shard of the images.
        weights: Weights of the images, float32 ``[b, k]``, with rows that sum to 1; ``None`` for
            1/k each.
        before: Function that changes every image by itself before it is mixed, but no label.

    Returns:
        The mixtures, whose members are the first images, with labels float32 ``[b, classes]``.
    """
    flat = sources.flatten()
    levels, labels = shard.images.index_select(0, flat).float(), shard.labels[flat]
    if weights is None:
        weights = torch.full(sources.shape, 1 / sources.shape[1])
    weights = weights.to(levels.device)
    if before is unchanged:  # saves one pass over the pixels of all k images
        pixels = _weighted(levels, weights / 255)
    else:
        each = before(Batch(flat, flat.unsqueeze(1), levels.div_(255), labels))
        pixels = _weighted(each.pixels, weights)
    one_hot = torch.nn.functional.one_hot(labels, shard.num_classes).float()
    return Batch(sources[:, 0], sources, pixels, _weighted(one_hot, weights))


def _weighted(parts: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of every k of ``[b k, ...]`` by weights ``[b, k]``, as matrix products."""
    flat = parts.reshape(*weights.shape, math.prod(parts.shape[1:]))
    return torch.bmm(weights.unsqueeze(1), flat).view(len(weights), *parts.shape[1:])


def _fingerprint(shard: Shard) -> str:
    found = hashlib.sha256()
    for part in (shard.images, shard.labels):
        found.update(part.cpu().contiguous().numpy().data)
    return found.hexdigest()
