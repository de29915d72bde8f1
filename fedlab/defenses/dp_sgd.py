"""DP-SGD at a client, as a defense of one round.

Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), algorithm 1.
"""

from dataclasses import replace

from fedlab.defenses.adaptive_clipping import Quantile, count_noise
from fedlab.defenses.per_example import fastest, fitting
from fedlab.defenses.pipeline import ClientContext, Pipeline, Sampler, poisson
from fedlab.defenses.private_gradient import Clipping, PrivateGradient, system_entropy
from fedlab.defenses.settings import DPSGD
from fedlab.models.per_example import Mode
from fedlab.privacy.release import History, PrivacyRelease

__all__ = ["ClipAndNoise", "PrivateGradient", "spending", "starting_bound"]


def spending(
    settings: DPSGD,
    *,
    round: int,
    participation: int,
    images: int,
    batch_size: int,
    steps: int,
    poisson: bool,
    history: History = (),
) -> PrivacyRelease:
    """What a round of DP-SGD costs; all of it is known before, and public.

    Args:
        settings: Of the defense.
        round: Counted from 1.
        participation: Of the client, counted from 0.
        images: In its shard.
        batch_size: Expected.
        steps: Number of batches.
        poisson: Whether batches are Poisson samples; otherwise they are of a fixed size, and the
            sample rate counts as 1.
        history: Of the client so far, which an adaptive bound goes on from.
    """
    return PrivacyRelease(
        round=round,
        participation=participation,
        mechanism="dp-sgd",
        clipping_norm=starting_bound(settings, history),
        noise_multiplier=settings.noise_multiplier,
        sample_rate=batch_size / images if poisson else 1.0,
        fixed_batch=None if poisson else True,
        steps=steps,
    )


class ClipAndNoise:
    """DP-SGD as a defense of one round."""

    def __init__(self, settings: DPSGD) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Replace the sampler by a Poisson one, and the gradient by a private one."""
        settings, n = self.settings, len(context.shard)
        batch_size = min(pipeline.batch_size, n)
        adaptive = settings.clipping == "adaptive"
        planned = spending(
            settings,
            round=context.round,
            participation=context.participation,
            images=n,
            batch_size=batch_size,
            steps=pipeline.batches,
            poisson=context.poisson,
            history=context.history,
        )
        clipping, mode = self._clipping(batch_size), self._mode(context, batch_size)
        gradient = PrivateGradient(
            context.model,
            clipping_norm=starting_bound(settings, context.history),
            noise_multiplier=0.0 if context.noiseless else settings.noise_multiplier,
            expected_batch_size=batch_size,
            generator=(
                system_entropy(context.noise.device) if settings.secure_noise else context.noise
            ),
            clipping=clipping,
            mode=mode,
            at_once=fitting(context.model, settings.memory) if settings.memory else None,
            secure=settings.secure_noise,
        )
        sampler: Sampler = pipeline.sampler
        if context.poisson:
            sampler = poisson(
                n,
                rate=batch_size / n,
                steps=pipeline.batches,
                # A round that is run again must not draw the same batches: noise that is added
                # to the same images twice protects them less than two draws are accounted for.
                generator=context.stream(f"batches {context.participation}"),
            )

        def spent() -> PrivacyRelease:
            return replace(planned, next_clipping_norm=gradient.clipping_norm)

        return replace(
            pipeline,
            sampler=sampler,
            gradient=gradient,
            batch_size=batch_size,
            close=(*pipeline.close, gradient.close),
        ).charged(planned, spent if adaptive else None)

    def _clipping(self, batch_size: int) -> Clipping:
        settings = self.settings
        if settings.clipping != "adaptive":
            return settings.clipping
        noise = count_noise(
            settings.quantile_noise,
            noise_multiplier=settings.noise_multiplier,
            batch_size=batch_size,
        )
        return Quantile(settings.quantile, settings.quantile_lr, noise)

    def _mode(self, context: ClientContext, batch_size: int) -> Mode:
        if self.settings.per_example != "auto":
            return self.settings.per_example
        channels, height, width = context.shard.images.shape[1:]
        return fastest(
            context.model,
            (channels, height, width),
            batch_size=batch_size,
            flat=self.settings.clipping == "flat",
        )


def starting_bound(settings: DPSGD, history: History) -> float:
    """The clipping norm that a round starts with; public, as histories are.

    Args:
        settings: Of the defense.
        history: Of the client before the round: an adaptive bound goes on from where the last such
            round left it.
    """
    if settings.clipping != "adaptive":
        return settings.clipping_norm
    bounds = (entry.next_clipping_norm for entry in reversed(history))
    return next((bound for bound in bounds if bound is not None), settings.clipping_norm)
