"""Run both attackers on one victim, and score the images that they rebuild."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attacks.reconstruction import AttackSettings, Reconstruction, invert
from benchmarks.breaching_peer import LocalSteps, PeerResult, invert_with_breaching
from benchmarks.families import Tuned
from benchmarks.victims import Victim
from fedlab.metrics.images import match, psnr
from fedlab.metrics.similarity import ssim

NAMES = {"step": "step-lr", "cosine": "cosine-decay", "linear": "linear"}
"""Schedules as breaching calls them."""


def attacked(one: Victim, attack: AttackSettings, *, workers: int = 1) -> Reconstruction:
    """Run our attack on one victim."""
    return invert(
        one.model,
        one.state,
        one.payload,
        one.knowledge,
        attack,
        generator=torch.Generator().manual_seed(0),
        workers=workers,
    )


def breached(
    one: Victim,
    settings: Tuned,
    iterations: int,
    *,
    restarts: int = 1,
    marks: Sequence[int] = (),
) -> PeerResult:
    """Run breaching on one victim; ``marks`` are the iterations at which its answer is noted."""
    known, local = one.knowledge, one.knowledge.local
    overrides: dict[str, object] = {
        "+regularization.total_variation.double_opponents": settings.tv_opponents
    }
    if restarts > 1:
        overrides["restarts.num_trials"] = restarts
    return invert_with_breaching(
        one.model,
        list(one.payload.tensors.values()),
        labels=one.labels,
        shape=known.image_shape,
        mean=known.mean,
        std=known.std,
        iterations=iterations,
        tv=settings.tv,
        step_size=settings.lr,
        sign=None if settings.sign == "none" else settings.sign,
        schedule=NAMES[settings.schedule],
        marks=marks,
        local=None
        if local is None
        else LocalSteps(lr=local.lr, steps=one.payload.steps, images_per_step=local.batch_size),
        overrides=overrides,
    )


def scored(one: Victim, images: Tensor) -> tuple[list[float], list[float]]:
    """PSNR in dB and SSIM of rebuilt images ``[n, channels, height, width]``, pixels in [0, 1]."""
    places, chosen = match(one.pixels, images.cpu())
    true, guess = one.pixels[places], images.cpu()[chosen]
    return psnr(true, guess).tolist(), ssim(true, guess).tolist()
