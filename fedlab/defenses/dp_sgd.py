"""DP-SGD at a client: clipped per-example gradients plus Gaussian noise.

Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), algorithm 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedlab.defenses.base import ELSEWHERE, Defense, NoiseSource
from fedlab.privacy.accounts import EXAMPLE, Account
from fedlab.privacy.release import History, PrivacyRelease

if TYPE_CHECKING:
    from torch import nn

    from fedlab.defenses.pipeline import ClientContext, Pipeline, Sampler
    from fedlab.defenses.private_gradient import Clipping
    from fedlab.models.per_example import Mode


class DPSGD(Defense):
    """DP-SGD: per-example clipping and Gaussian noise (Abadi et al. 2016), by Opacus."""

    noise_multiplier: float = Field(default=1.0, ge=0)
    """Standard deviation of the noise in units of the clipping norm; 0 clips only."""
    target_epsilon: float | None = Field(default=None, gt=0)
    """Epsilon at ``privacy.delta`` that each client's scheduled rounds under DP-SGD shall cost
    together. The noise multiplier is solved for it before the run starts; the run's own scenario
    has the solution in its place, in one entry for each group of clients."""
    budget: float | None = Field(default=None, gt=0)
    """Largest epsilon of a client's rounds under DP-SGD: it abstains from a round that would exceed
    it."""
    clipping_norm: float = Field(default=1.0, gt=0)
    """Largest L2 norm of one example's gradient; the first bound of adaptive clipping."""
    clipping: Literal["flat", "per-layer", "adaptive"] = "flat"
    """One norm for the whole gradient, an equal part of it for each parameter, or a norm that
    follows a quantile of the gradients' own norms (arXiv 1905.03871)."""
    quantile: float = Field(default=0.5, gt=0, lt=1)
    """Adaptive clipping: share of the gradients that should stay unclipped."""
    quantile_lr: float = Field(default=0.2, gt=0)
    """Adaptive clipping: step size of the bound, on a log scale."""
    quantile_noise: float | None = Field(default=None, gt=0)
    """Adaptive clipping: standard deviation of the noise on the count of unclipped gradients; a
    twentieth of the batch unless given, and more where the noise multiplier needs it."""
    per_example: Literal["auto", "hooks", "ew", "functorch", "ghost"] = "auto"
    """How Opacus gets per-example gradients; ``ghost`` saves memory, with flat clipping."""
    memory: float | None = Field(default=None, gt=0)
    """MiB for per-example gradients: batches are split so that they fit."""
    secure_noise: bool = False
    """Seed the noise by the system's entropy, and draw it so that floating point does not leak."""

    colour: ClassVar[str] = "#0072B2"
    account: ClassVar[Account] = EXAMPLE
    keeps_guarantees: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.per_example == "ghost" and self.clipping != "flat":
            raise ValueError('per_example = "ghost" goes with clipping = "flat" only')
        if self.clipping == "adaptive" and self.quantile_noise is not None:
            least = self.noise_multiplier / 2
            if self.quantile_noise <= least:
                raise ValueError(
                    f"quantile_noise is {self.quantile_noise:g}, but with noise_multiplier = "
                    f"{self.noise_multiplier:g} it has to be above {least:g}: less on the count "
                    "alone would cost more than both together may"
                )
        return self

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Replace the sampler by a Poisson sampler, and the gradient by a private one."""
        from fedlab.defenses.per_example import fitting
        from fedlab.defenses.private_gradient import PrivateGradient, system_entropy

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

        def spent() -> PrivacyRelease:
            return replace(planned, next_clipping_norm=gradient.clipping_norm)

        return replace(
            pipeline,
            sampler=self._sampler(pipeline, context, batch_size),
            gradient=gradient,
            batch_size=batch_size,
            close=(*pipeline.close, gradient.close),
        ).charged(planned, spent if self.clipping == "adaptive" else None)

    @property
    def noise_source(self) -> NoiseSource:
        """Seeded noise, or noise of the operating system under ``secure_noise``."""
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

    def facts(self, history: History) -> dict[str, Any]:
        """The clipping norm that the round starts with, and the noise multiplier."""
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
        """The cost of a round, all of which is known before it and public.

        Batches that are no Poisson samples have a fixed size, and their sample rate counts as 1.
        """
        return PrivacyRelease(
            round=round,
            participation=participation,
            mechanism=self.name,
            clipping_norm=self.starting_bound(history),
            noise_multiplier=self.noise_multiplier,
            sample_rate=batch_size / images if poisson else 1.0,
            fixed_batch=None if poisson else True,
            steps=steps,
        )

    def starting_bound(self, history: History) -> float:
        """The clipping norm that a round starts with; public, as histories are.

        Args:
            history: Privacy history of the client before the round; an adaptive bound continues
                from where its last such round ended.
        """
        if self.clipping != "adaptive":
            return self.clipping_norm
        bounds = (entry.next_clipping_norm for entry in reversed(history))
        return next((bound for bound in bounds if bound is not None), self.clipping_norm)

    def conflict(self, other: Defense) -> str | None:
        """An image must pass the per-example clipping once, and noise must cover every look."""
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
                f"{names} with adaptive clipping: the bound that is declared after each round is "
                "learnt from all images of the client, which no noise on its update covers, so "
                f'the epsilon of the client would be wrong; set clipping = "flat", or {ELSEWHERE}'
            )
        return None

    def norm_problem(self, norm: str | None) -> str | None:
        """BatchNorm lets one example change the gradients of others."""
        if norm == "batch":
            return (
                "BatchNorm mixes the examples of a batch, so DP-SGD cannot bound what one of them "
                'does: set model.norm = "group"'
            )
        return None

    def network_problem(self, model: nn.Module, shape: tuple[int, int, int]) -> str | None:
        """The network has to give a gradient for each example."""
        from fedlab.models.checks import private_training_problem

        problem = private_training_problem(model, shape, self.per_example)
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
            # A round that is run again must not draw the same batches: noise that is added
            # to the same images twice protects them less than two draws are accounted for.
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
        return fastest(
            context.model,
            (channels, height, width),
            batch_size=batch_size,
            flat=self.clipping == "flat",
        )
