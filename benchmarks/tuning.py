"""Settings of each attacker, chosen on images that the comparison does not use.

A coordinate search for each family of victims and each attacker tries one setting after another
at all its values, and keeps the value of the highest mean PSNR. Both search the same values; ours
has one setting more, Adam's memory, and starts from the best of its preset, of the earlier choice
and of breaching's result. ``benchmarks.families`` contains the results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import mean
from typing import Any

import torch

from attacks.reconstruction import AttackSettings
from benchmarks.families import FAMILIES, FAST, PUBLISHED, Family, Tuned
from benchmarks.options import Options, cifar
from benchmarks.report import THREADS, Figure, Report, console
from benchmarks.rivals import attacked, breached, scored
from fedlab.data.loading import load

ITERATIONS = 100

Settings = Tuned | AttackSettings

SHARED: Mapping[str, Sequence[Any]] = {
    "schedule": ("step", "cosine", "linear"),
    "sign": ("hard", "soft", "none"),
    "lr": (0.1, 0.2, 0.3, 0.5, 1.0),
    "tv": (1e-6, 1e-5, 1e-4, 2e-4, 1e-3, 1e-2, 0.1),
    "tv_opponents": (False, True),
}
"""What both attackers try, in this order."""

OWN: Mapping[str, Sequence[Any]] = {
    "betas": ((0.8, 0.99), (0.9, 0.999)),
}
"""What only ours has."""

Quality = Callable[[Settings], float]


@dataclass(frozen=True)
class Walk:
    """The course of one coordinate search.

    Attributes:
        tried: Every tried setting with its mean PSNR in dB, in order.
    """

    tried: tuple[tuple[Settings, float], ...]

    @property
    def best(self) -> tuple[Settings, float]:
        """The best setting of all."""
        return max(self.tried, key=lambda pair: pair[1])


def run(options: Options) -> Report:
    """Search for both attackers on every family, one search on each core.

    Raises:
        BadInput: If there are no images.
    """
    path = cifar(options)
    with get_context("spawn").Pool(options.processes) as pool:
        walks = pool.starmap(_both, [(f, path, options.device) for f in FAMILIES], chunksize=1)
    return Report(
        title="Which settings suit each attacker?",
        settings={
            "images": "CIFAR-10 test images from 100 in class order, 8 or 4 of them",
            "iterations": ITERATIONS,
        },
        figures=[figure for figures in walks for figure in figures],
    )


def _both(family: Family, path: str, device: str) -> list[Figure]:
    torch.set_num_threads(THREADS)
    data = load(f"npz:{path}")
    model, _ = family.model(data, torch.device(device))
    victims = family.victims(model, data, family.tuned_on)

    def quality(settings: Settings) -> float:
        images = [
            breached(one, settings, ITERATIONS).images
            if isinstance(settings, Tuned)
            else attacked(one, replace(settings, iterations=ITERATIONS)).images
            for one in victims
        ]
        pairs = zip(victims, images, strict=True)
        return mean(value for one, each in pairs for value in scored(one, each)[0])

    theirs = walked(f"{family.name}, breaching", [PUBLISHED, family.breaching], SHARED, quality)
    found, _ = theirs.best
    like_theirs = replace(
        FAST,
        betas=(0.9, 0.999),
        **{name: getattr(found, name) for name in SHARED},
    )
    ours = walked(
        f"{family.name}, ours", [FAST, family.ours, like_theirs], {**OWN, **SHARED}, quality
    )
    return [
        Figure(f"{family.name}, {who}: {_told(settings)}, mean PSNR", "dB", [each])
        for who, walk in (("breaching", theirs), ("ours", ours))
        for settings, each in walk.tried
    ]


def walked(
    walk: str, starts: Sequence[Settings], axes: Mapping[str, Sequence[Any]], quality: Quality
) -> Walk:
    """Search from the best of some settings along one axis after another.

    Args:
        walk: Name of the search, for the progress display.
        starts: Settings among which the start is chosen.
        axes: Values of each setting, in the order of the search.
        quality: Function to maximise.
    """
    tried: dict[Settings, float] = {}
    for start in starts:
        if start not in tried:
            tried[start] = quality(start)
    for name, values in axes.items():
        here = max(tried, key=lambda settings: tried[settings])
        for value in values:
            step = replace(here, **{name: value})
            if step not in tried:
                tried[step] = quality(step)
    found = Walk(tuple(tried.items()))
    chosen, value = found.best
    console.print(f"{walk}: {value:.2f} dB with {_told(chosen)}", soft_wrap=True)
    return found


def _told(settings: Settings) -> str:
    names = SHARED if isinstance(settings, Tuned) else {**OWN, **SHARED}
    return ", ".join(f"{name} {getattr(settings, name)}" for name in names)
