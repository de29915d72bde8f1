"""Which settings suit each attacker, on images that the comparison never shows.

One setting at a time is changed from the best known ones, for ours and for breaching alike: the
weight of total variation, whether it sees differences of colours, step size, sign and schedule.
The choices below are what ``benchmarks.reconstruction`` uses. Those for the trained network
change several settings together, found by hand on the same images: this grid starts from them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import mean
from typing import Any, Literal

import torch

from attacks.reconstruction import PRESETS, Attack, Reconstruction, invert
from benchmarks.breaching_peer import LocalSteps, PeerResult, invert_with_breaching
from benchmarks.options import Options
from benchmarks.report import THREADS, Figure, Report, console
from benchmarks.victims import Victim, trained, untrained, victim
from fedlab.data.sources import load
from fedlab.errors import BadInput
from fedlab.evaluation.images import match, psnr

PLACES = (100, 101, 102, 103)
"""Test images that are tuned on."""

ITERATIONS = 100

Family = Literal["untrained", "trained"]
Change = dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """Settings of breaching, under the names that ours have.

    Attributes:
        tv: Weight of total variation.
        lr: Step size.
        sign: ``hard``, ``soft`` or ``none``.
        schedule: ``step``, ``cosine`` or ``linear``.
        tv_opponents: Whether differences of colours count.
    """

    tv: float
    lr: float = 0.1
    sign: str = "hard"
    schedule: str = "step"
    tv_opponents: bool = False


PUBLISHED = Tuned(tv=1e-6)
"""Its Inverting Gradients settings, with the weight for untrained networks."""

BREACHING: dict[Family, Tuned] = {
    "untrained": Tuned(tv=1e-4, lr=0.3, schedule="cosine", tv_opponents=True),
    "trained": Tuned(tv=0.1, lr=0.3, sign="none", schedule="cosine", tv_opponents=True),
}
OURS: dict[Family, Attack] = {
    "untrained": PRESETS["spectrum"],
    "trained": replace(PRESETS["spectrum"], tv=0.2, lr=0.5, betas=(0.9, 0.999)),
}

CHANGES: tuple[Change, ...] = (
    {},
    {"tv": 1e-6},
    {"tv": 1e-3},
    {"tv": 1e-2},
    {"tv": 0.3},
    {"tv_opponents": True},
    {"tv_opponents": False},
    {"lr": 0.1},
    {"lr": 0.2},
    {"lr": 0.5},
    {"lr": 1.0},
    {"lr": 2.0},
    {"sign": "soft"},
    {"sign": "none"},
    {"sign": "hard"},
    {"schedule": "step"},
    {"schedule": "linear"},
)
"""What is tried, each alone; those that change nothing are skipped."""

NAMES = {"step": "step-lr", "cosine": "cosine-decay", "linear": "linear"}
"""Schedules as breaching calls them."""


def run(options: Options) -> Report:
    """Try every change for both attackers on both networks.

    Raises:
        BadInput: If there are no images.
    """
    if options.data is None or not options.data.is_file():
        raise BadInput("no images: name an .npz of CIFAR-10 with --data")
    families: tuple[Family, ...] = ("untrained", "trained")
    tasks = [(family, who, str(options.data)) for family in families for who in (True, False)]
    with get_context("spawn").Pool(2) as pool:
        found = pool.starmap(_tried, tasks, chunksize=1)
    return Report(
        title="Which settings suit each attacker?",
        settings={
            "images": f"CIFAR-10 test images {PLACES[0]} to {PLACES[-1]} in class order",
            "iterations": ITERATIONS,
            "networks": "convnet8 of width 32, untrained, and convnet of width 32, trained",
        },
        figures=[figure for figures in found for figure in figures],
    )


def attacked(one: Victim, attack: Attack, *, workers: int = 1) -> Reconstruction:
    """Ours on one victim."""
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
    """Breaching on one victim; ``marks`` are the iterations at which its answer is noted."""
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


def _tried(family: Family, ours: bool, path: str) -> list[Figure]:
    torch.set_num_threads(THREADS)
    data = load(f"npz:{path}")
    model = trained(data)[0] if family == "trained" else untrained("convnet8", data, width=32)
    victims = [victim(model, data, [place]) for place in PLACES]
    name = "ours" if ours else "breaching"
    figures = []
    for change in _changes(OURS[family] if ours else BREACHING[family]):
        if ours:
            attack = replace(OURS[family], iterations=ITERATIONS, **change)
            rebuilt = [attacked(one, attack).images for one in victims]
        else:
            settings = replace(BREACHING[family], **change)
            rebuilt = [breached(one, settings, ITERATIONS).images for one in victims]
        quality = []
        for one, images in zip(victims, rebuilt, strict=True):
            places, chosen = match(one.pixels, images)
            quality += psnr(one.pixels[places], images[chosen]).tolist()
        what = ", ".join(f"{key} {value}" for key, value in change.items()) or "as chosen"
        figures.append(Figure(f"{family}, {name}: {what}, mean PSNR", "dB", [mean(quality)]))
        console.print(f"{figures[-1].name}: {mean(quality):.2f} dB", soft_wrap=True)
    return figures


def _changes(chosen: Attack | Tuned) -> Iterator[Change]:
    for change in CHANGES:
        if not change or any(getattr(chosen, key) != value for key, value in change.items()):
            yield change
