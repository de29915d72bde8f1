"""DP-SGD at a client: clipped per-example gradients plus Gaussian noise.

Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), algorithm 1.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedlab.defenses.base import ELSEWHERE, Defense, NoiseSource
from fedlab.privacy.accounts import EXAMPLE, Account
from fedlab.privacy.release import LARGEST, History, PrivacyRelease

if TYPE_CHECKING:
    from torch import nn

    from fedlab.defenses.pipeline import ClientContext, Pipeline, Sampler
    from fedlab.defenses.private_gradient import Clipping
    from fedlab.defenses.workload import Workload
    from fedlab.models.per_example import Mode


log = logging.getLogger(__name__)


class DPSGD(Defense):
    """DP-SGD: per-example gradient clipping and Gaussian noise (Abadi et al. 2016), by Opacus."""

    noise_multiplier: float = Field(default=1.0, ge=0, le=LARGEST)
    """Standard deviation of the noise in units of the clipping norm, at least 0; with 0, gradients
    are clipped but get no noise."""
    target_epsilon: float | None = Field(default=None, gt=0)
    """Epsilon at ``privacy.delta`` of each client's scheduled rounds under DP-SGD together. The
    noise multiplier is solved for it before the run; the run folder's scenario has the solution
    instead, in one entry per group of clients. Without it, ``noise_multiplier`` applies."""
    budget: float | None = Field(default=None, gt=0)
    """Largest epsilon at ``privacy.delta`` of a client's rounds under DP-SGD; the client abstains
    from a round that would exceed it. Without it, there is no limit."""
    clipping_norm: float = Field(default=1.0, gt=0, le=LARGEST)
    """Largest L2 norm of one example's gradient; with adaptive clipping, the initial norm."""
    clipping: Literal["flat", "per-layer", "adaptive"] = "flat"
    """Kind of clipping: ``flat`` by one norm for the whole gradient, ``per-layer`` by an equal norm
    for each parameter tensor, or ``adaptive`` by a norm that follows a quantile of the gradient
    norms (arXiv 1905.03871)."""
    quantile: float = Field(default=0.5, gt=0, lt=1)
    """Share of the gradients that should stay unclipped, in (0, 1), for adaptive clipping."""
    quantile_lr: float = Field(default=0.2, gt=0)
    """Step size of the logarithm of the clipping norm, for adaptive clipping."""
    quantile_noise: float | None = Field(default=None, gt=0, le=LARGEST)
    """Standard deviation of the noise on the count of unclipped gradients, for adaptive clipping;
    greater than half the noise multiplier. Without it, a twentieth of the batch size, or the noise
    multiplier if that is larger."""
    per_example: Literal["auto", "hooks", "ew", "functorch", "ghost", "loop"] = "auto"
    """Method that computes per-example gradients; ``auto`` takes the fastest one that can train the
    network, ``ghost`` saves memory but needs flat clipping, and ``loop`` passes the images through
    the network one at a time: slow, but right for every network that treats images separately."""
    memory: float | None = Field(default=None, gt=0)
    """Memory for per-example gradients in MiB; batches are split to fit. Without it, no limit."""
    secure_noise: bool = False
    """Seed the noise by the operating system's entropy, and draw it so that its floating-point
    digits reveal nothing; a run then cannot be repeated bit for bit."""

    colour: ClassVar[str] = "#0072B2"
    strengths: ClassVar[tuple[str, ...]] = ("noise_multiplier", "clipping_norm")
    account: ClassVar[Account] = EXAMPLE
    keeps_guarantees: ClassVar[bool] = True
    computes_gradient: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.per_example == "ghost" and self.clipping != "flat":
            raise ValueError('per_example = "ghost" needs clipping = "flat"')
        if self.clipping == "adaptive" and self.quantile_noise is not None:
            least = self.noise_multiplier / 2
            if self.quantile_noise <= least:
                raise ValueError(
                    f"quantile_noise is {self.quantile_noise:g}, but with noise_multiplier = "
                    f"{self.noise_multiplier:g} it has to be above {least:g}, or the count alone "
                    "would cost more than the noise multiplier allows"
                )
        return self

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Replace the sampler by a Poisson sampler and the gradient by a private gradient."""
        from fedlab.defenses.per_example import fitting
        from fedlab.defenses.pipeline import PlainGradient
        from fedlab.defenses.private_gradient import PrivateGradient, system_entropy

        if not isinstance(pipeline.gradient, PlainGradient):
            raise ValueError(
                f"{self.name} computes the gradient itself, which would discard what an earlier "
                f"defense does to it: list that defense after {self.name}, or leave one out"
            )
        batch_size = min(pipeline.batch_size, len(context.shard))
        planned = self.planned_release(
            round=context.round,
            participation=context.participation,
            images=len(context.shard),
            batch_size=batch_size,
            steps=pipeline.batches,
            poisson=context.poisson,
            history=context.history,
        )
        clipping, mode = self._clipping(batch_size), self._mode(context, batch_size)
        gradient = PrivateGradient(
            context.model,
            clipping_norm=self.starting_bound(context.history),
            noise_multiplier=0.0 if context.noiseless else self.noise_multiplier,
            expected_batch_size=batch_size,
            generator=(
                system_entropy(context.noise.device) if self.secure_noise else context.noise
            ),
            clipping=clipping,
            mode=mode,
            at_once=fitting(context.model, self.memory) if self.memory else None,
            secure=self.secure_noise,
        )

        def charge() -> PrivacyRelease:
            return replace(planned, next_clipping_norm=gradient.clipping_norm)

        return replace(
            pipeline,
            sampler=self._sampler(pipeline, context, batch_size),
            gradient=gradient,
            batch_size=batch_size,
            close=(*pipeline.close, gradient.close),
        ).charged(planned, charge if self.clipping == "adaptive" else None)

    @property
    def noise_source(self) -> NoiseSource:
        """``system`` with ``secure_noise``, otherwise ``seeded``."""
        return "system" if self.secure_noise else "seeded"

    @property
    def privacy_budget(self) -> float | None:
        """The setting ``budget``."""
        return self.budget

    @property
    def target(self) -> float | None:
        """The setting ``target_epsilon``."""
        return self.target_epsilon

    def settled(self, noise_multiplier: float | None) -> Self:
        """The defense with a noise multiplier in the place of its target epsilon."""
        noise = self.noise_multiplier if noise_multiplier is None else noise_multiplier
        return self.model_copy(update={"noise_multiplier": noise, "target_epsilon": None})

    @property
    def states_noise(self) -> bool:
        """True unless the clipping norm adapts, for which gradients get more noise than stated."""
        return self.clipping != "adaptive"

    def facts(self, history: History) -> dict[str, Any]:
        """Return the clipping norm at the start of the round and the noise multiplier."""
        return {
            "clipping_norm": self.starting_bound(history),
            "noise_multiplier": self.noise_multiplier,
        }

    def planned_release(
        self,
        *,
        round: int,
        participation: int,
        images: int,
        batch_size: int,
        steps: int,
        poisson: bool,
        history: History = (),
    ) -> PrivacyRelease:
        """Return the cost of a round, which is public and known before it.

        Batches that are not Poisson samples have a fixed size, and their sample rate counts as 1.
        """
        return self.entry(
            round,
            participation,
            clipping_norm=self.starting_bound(history),
            noise_multiplier=self.noise_multiplier,
            sample_rate=batch_size / images if poisson else 1.0,
            fixed_batch=None if poisson else True,
            steps=steps,
        )

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
        """Return the planned cost; under adaptive clipping any norm may stand for the next one."""
        planned = self.planned_release(
            round=round,
            participation=participation,
            images=images,
            batch_size=min(work.batch_size, images),
            steps=work.steps,
            poisson=work.poisson,
            history=history,
        )
        adaptive = self.clipping == "adaptive"
        return replace(planned, next_clipping_norm=planned.clipping_norm if adaptive else None)

    def starting_bound(self, history: History) -> float:
        """Return the clipping norm at the start of a round, which is public.

        Args:
            history: Privacy history of the client before the round. Adaptive clipping continues
                with the norm at the end of the client's last round with adaptive clipping.
        """
        if self.clipping != "adaptive":
            return self.clipping_norm
        bounds = (entry.next_clipping_norm for entry in reversed(history))
        return next((bound for bound in bounds if bound is not None), self.clipping_norm)

    def conflict(self, other: Defense) -> str | None:
        """Refuse what breaks the per-example guarantee."""
        names = f"both {self.name} and {other.name}"
        if other.mixes_images:
            return (
                f"{names}: one image mixed into several others passes the per-example clipping "
                f"several times, so its epsilon would be wrong; {ELSEWHERE}"
            )
        if other.couples_images:
            return (
                f"{names}: an image is changed by the gradients of others, so it passes the "
                f"per-example clipping in theirs as well and its epsilon would be wrong; "
                f"{ELSEWHERE}"
            )
        if other.selects_by_images:
            return (
                f"{names}: {other.name} chooses what to send by looking at the images, which no "
                f"noise covers, so the epsilon would be wrong; use pruning instead, or {ELSEWHERE}"
            )
        if self.clipping == "adaptive" and other.account and other.account.unit == "client":
            return (
                f"{names} with adaptive clipping: the clipping norm that is declared after each "
                "round depends on all images of the client, which no noise on its update covers, "
                f'so the client\'s epsilon would be wrong; set clipping = "flat", or {ELSEWHERE}'
            )
        return None

    def norm_problem(self, norm: str | None) -> str | None:
        """Refuse BatchNorm, with which one example changes the gradients of others."""
        if norm == "batch":
            return (
                "BatchNorm mixes the examples of a batch, so DP-SGD cannot bound the influence of "
                'one of them: set model.norm = "group"'
            )
        return None

    def network_problem(self, model: nn.Module, shape: tuple[int, int, int]) -> str | None:
        """Refuse a network whose per-example gradients are not those of each image alone."""
        from fedlab.defenses.per_example import training_problem

        problem = training_problem(model, shape, self.per_example)
        return f"dp-sgd cannot train this network: {problem}" if problem else None

    def _sampler(self, pipeline: Pipeline, context: ClientContext, batch_size: int) -> Sampler:
        from fedlab.defenses.pipeline import poisson

        if not context.poisson:
            return pipeline.sampler
        n = len(context.shard)
        return poisson(
            n,
            rate=batch_size / n,
            steps=pipeline.batches,
            # A repeated round must draw new batches: accounting assumes independent samples, and
            # noise on the same images twice protects them less.
            generator=context.stream(f"batches {context.participation}"),
        )

    def _clipping(self, batch_size: int) -> Clipping:
        from fedlab.defenses.adaptive_clipping import Quantile, count_noise

        if self.clipping != "adaptive":
            return self.clipping
        noise = count_noise(
            self.quantile_noise, noise_multiplier=self.noise_multiplier, batch_size=batch_size
        )
        return Quantile(self.quantile, self.quantile_lr, noise)

    def _mode(self, context: ClientContext, batch_size: int) -> Mode:
        from fedlab.defenses.per_example import fastest

        if self.per_example != "auto":
            return self.per_example
        channels, height, width = context.shard.images.shape[1:]
        mode = fastest(
            context.model,
            (channels, height, width),
            batch_size=batch_size,
            flat=self.clipping == "flat",
        )
        if mode == "loop":
            log.warning(
                "round %d: dp-sgd passes the images through the network one at a time, which is "
                "slow, because Opacus gives other gradients than autograd for it",
                context.round,
            )
        return mode
