"""The attacker beside breaching's: same weights, images, labels and threads, in one run.

Breaching runs twice: with its Inverting Gradients settings at total variation 1e-6, its schedule
scaled to the budget, and with the settings of ``benchmarks.families``, which were chosen for both
attackers alike on other images. Ours runs at the same number of iterations and at shares of it.
Nothing that chooses an iterate, a restart or the end of an attack sees the true images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from multiprocessing import get_context
from operator import add
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor

from attacks.reconstruction import PRESETS, AttackSettings
from benchmarks.families import (
    BATCH,
    NARROW,
    PHOTO,
    PUBLISHED,
    RESIDUAL,
    RESIDUAL_BATCH,
    STEPS,
    TRAINED,
    WIDE,
    Family,
    Tuned,
)
from benchmarks.options import Options, cifar
from benchmarks.report import THREADS, Claim, Figure, Report, console
from benchmarks.rivals import attacked, breached, scored
from benchmarks.victims import Victim, photograph
from fedlab.core.errors import BadInput
from fedlab.data.loading import load

SHARES = (16, 8, 4, 2, 1)
"""Our budgets as parts of breaching's iterations, from a sixteenth to all of them."""

GOAL = 8
"""How many times sooner ours is to end at breaching's mean PSNR."""

TUNED_GOAL = 1.5
"""The same against tuned breaching."""

RESTARTS = 4
RESTARTS_GOAL = 1.3

PARTS = 16
"""Marks along breaching's way, at which its answer so far is scored."""

CLOSE = 0.1
"""dB from the final PSNR at which an attack counts as there."""

TIMED = 12
"""Iterations of one block of the timing, in which both attackers take turns."""

BLOCKS = 5


@dataclass(frozen=True)
class Setting:
    """One victim kind and budget of the comparison.

    Attributes:
        name: Description of the victims.
        family: Kind of victims, with network and settings.
        places: Indices of the test images, in batches of the family's size.
        iterations: Iterations of breaching.
    """

    name: str
    family: Family
    places: tuple[int, ...]
    iterations: int

    def parts(self) -> Iterator[tuple[int, ...]]:
        """Indices for each process: one victim, or all that share a trained network."""
        size = len(self.places) if self.family.network == "trained" else self.family.batch
        for start in range(0, len(self.places), size):
            yield self.places[start : start + size]


TWO, FOUR, EIGHT = (tuple(range(count)) for count in (2, 4, 8))

SETTINGS = (
    Setting("convnet8 of width 32, 1 image", NARROW, EIGHT, 128),
    Setting("convnet8 of width 32, 4 images", BATCH, EIGHT, 80),
    Setting("convnet8 of width 32, 8 images", replace(BATCH, batch=8), EIGHT, 64),
    Setting("convnet8, 4 images in 4 local steps", STEPS, FOUR, 64),
    Setting("trained convnet of width 32, 1 image", TRAINED, EIGHT, 240),
    Setting("resnet18, 1 image", RESIDUAL, TWO, 96),
    Setting("resnet18, 4 images", RESIDUAL_BATCH, FOUR, 48),
)
"""Sizes for two cores and a quarter of an hour."""

ON_GPU = (
    Setting("convnet8 of width 64, 1 image", WIDE, FOUR, 300),
    Setting("convnet8 of width 64, 4 images", replace(BATCH, width=64), FOUR, 240),
    Setting("convnet8 of width 64, 8 images", replace(BATCH, width=64, batch=8), EIGHT, 160),
    Setting("resnet18, 1 image", RESIDUAL, TWO, 300),
    Setting("resnet18, 4 images", RESIDUAL_BATCH, FOUR, 200),
    Setting("resnet18, 8 images", replace(RESIDUAL_BATCH, batch=8), EIGHT, 100),
)
"""Sizes for some minutes of a large GPU; what small networks need is measured on a CPU."""

PHOTOGRAPH = Setting("a photograph of 256 pixels, torchvision's resnet18", PHOTO, (0,), 200)


@dataclass(frozen=True)
class Outcome:
    """The result of one attacker on the victims of a setting.

    Attributes:
        psnr: PSNR of each image in dB.
        ssim: SSIM of each image.
        seconds: Wall time of all attacks together.
        way: PSNR of each image in dB at each of ``PARTS`` marks, where it was noted.
    """

    psnr: tuple[float, ...] = ()
    ssim: tuple[float, ...] = ()
    seconds: float = 0.0
    way: tuple[tuple[float, ...], ...] = ()

    def __add__(self, other: "Outcome") -> "Outcome":
        """Merge the results on two sets of victims."""
        ways = zip(self.way, other.way, strict=True) if self.way and other.way else ()
        return Outcome(
            self.psnr + other.psnr,
            self.ssim + other.ssim,
            self.seconds + other.seconds,
            tuple(one + more for one, more in ways) or self.way or other.way,
        )

    @property
    def settled(self) -> float:
        """Share of the time after which the mean PSNR was within ``CLOSE`` of its final value."""
        means = [mean(at) for at in self.way]
        first = next((n for n, at in enumerate(means, 1) if at >= means[-1] - CLOSE), PARTS)
        return first / PARTS


@dataclass(frozen=True)
class Line:
    """One setting, measured on some or all of its victims.

    Attributes:
        name: Name of the setting.
        ratios: Breaching's time for an iteration over ours, one for each block.
        seconds: Seconds of one iteration of breaching, one for each block.
        published: Result of breaching with its Inverting Gradients settings.
        tuned: Result of breaching with tuned settings.
        ours: Our results by the share of the iterations.
        accuracy: Test accuracy of the network, if it was trained.
    """

    name: str
    ratios: tuple[float, ...]
    seconds: tuple[float, ...]
    published: Outcome
    tuned: Outcome
    ours: dict[int, Outcome]
    accuracy: float | None

    def __add__(self, other: "Line") -> "Line":
        """Merge the measurements on two sets of victims."""
        return replace(
            self,
            ratios=self.ratios + other.ratios,
            seconds=self.seconds + other.seconds,
            published=self.published + other.published,
            tuned=self.tuned + other.tuned,
            ours={share: self.ours[share] + other.ours[share] for share in SHARES},
        )

    def reached(self, rival: Outcome) -> float | None:
        """Seconds of our shortest attack that ends at a rival's mean PSNR, if one does."""
        for share in SHARES:
            if mean(self.ours[share].psnr) >= mean(rival.psnr):
                return self.ours[share].seconds
        return None


def run(options: Options) -> Report:
    """Attack all victims with all attackers, one on each core or one after another on a GPU.

    Raises:
        BadInput: If there are no images.
    """
    path = cifar(options)
    if options.repeats:
        raise BadInput("--repeats is not for the benchmark reconstruction, whose images are fixed")
    settings = list(SETTINGS if options.device == "cpu" else ON_GPU)
    sources = [path] * len(settings)
    if options.photo is not None:
        settings, sources = [*settings, PHOTOGRAPH], [*sources, str(options.photo)]
    tasks = [
        (setting, source, places, options.device)
        for setting, source in zip(settings, sources, strict=True)
        for places in setting.parts()
    ]
    with get_context("spawn").Pool(options.processes if options.device == "cpu" else 1) as pool:
        parts = pool.starmap(measured, tasks, chunksize=1)
    lines = [
        reduce(add, (part for part in parts if part.name == setting.name)) for setting in settings
    ]
    figures = [figure for line in lines for figure in _figures(line)]
    against, gain = restarted(path, options.device)
    workers = "on two threads" if options.device == "cpu" else "on streams of their own"
    figures += [
        Figure(f"{RESTARTS} restarts {workers}: breaching's time over ours", "", against),
        Figure(f"{RESTARTS} restarts {workers}: one by one over side by side", "", gain),
    ]
    return Report(
        title="How fast and how well does the attacker rebuild images, beside breaching?",
        settings={
            "images": "CIFAR-10 test images from 0 in class order, none left out",
            "breaching": "0.1.2, inverting gradients, total variation 1e-6, and tuned",
            "ours": "as tuned on other images, over the same settings as breaching",
            "labels": "known to both; networks in evaluation mode, untrained unless said",
            "processes": f"{options.processes} victims at a time, one thread each"
            if options.device == "cpu"
            else "one",
        },
        figures=figures,
        claims=[
            *(claim for line in lines for claim in _claims(line)),
            Claim(
                f"{RESTARTS} restarts side by side are {median(gain):.2f} times as fast as one by "
                f"one, and {median(against):.2f} times as fast as breaching's",
                median(gain) >= RESTARTS_GOAL,
            ),
        ],
    )


def restarted(path: str, device: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Breaching's time over ours with restarts side by side, and ours one by one over that."""
    data = load(f"npz:{path}")
    (one,) = NARROW.victims(NARROW.model(data, torch.device(device))[0], data, (0,))
    attack = replace(PRESETS["inverting-gradients"], tv=PUBLISHED.tv, restarts=RESTARTS)
    workers = 2 if device == "cpu" else RESTARTS
    against, gain = [], []
    for _ in range(BLOCKS):
        torch.set_num_threads(2)
        theirs = breached(one, PUBLISHED, TIMED, restarts=RESTARTS).seconds
        serial, parallel = (_loop_seconds(one, attack, workers=w) for w in (1, workers))
        against.append(theirs / parallel)
        gain.append(serial / parallel)
    return tuple(against), tuple(gain)


def measured(setting: Setting, source: str, places: tuple[int, ...], device: str) -> Line:
    """Attack some victims of a setting with both attackers, in a new process."""
    torch.set_num_threads(THREADS)
    data = photograph(Path(source)) if setting.family.network == "large" else load(f"npz:{source}")
    family = setting.family
    model, accuracy = family.model(data, torch.device(device))
    victims = family.victims(model, data, places)
    ratios, seconds = _timed(victims[0]) if places[0] == setting.places[0] else ((), ())
    line = Line(
        name=setting.name,
        ratios=ratios,
        seconds=seconds,
        published=_breaching(victims, PUBLISHED, setting.iterations),
        tuned=_breaching(victims, family.breaching, setting.iterations),
        ours={
            share: _ours(victims, replace(family.ours, iterations=setting.iterations // share))
            for share in SHARES
        },
        accuracy=accuracy,
    )
    console.print(f"{setting.name}: {len(victims)} done")
    return line


def _timed(one: Victim) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Breaching's time for an iteration over ours, and its seconds, measured in turns."""
    ratios, seconds = [], []
    attack = replace(PRESETS["inverting-gradients"], tv=PUBLISHED.tv)
    for _ in range(BLOCKS):
        theirs = breached(one, PUBLISHED, TIMED).seconds
        ratios.append(theirs / _loop_seconds(one, attack))
        seconds.append(theirs / TIMED)
    return tuple(ratios), tuple(seconds)


def _loop_seconds(one: Victim, attack: AttackSettings, *, workers: int = 1) -> float:
    """Seconds of the loop alone, as for breaching: the extra time of extra iterations."""
    # Not from the first: on a GPU a recording comes before it can be replayed.
    first = 1 if one.device.type == "cpu" else 8
    short = attacked(one, replace(attack, iterations=first), workers=workers).seconds
    long = attacked(one, replace(attack, iterations=TIMED + first), workers=workers).seconds
    return long - short


def _breaching(victims: Sequence[Victim], settings: Tuned, iterations: int) -> Outcome:
    marks = [iterations * part // PARTS for part in range(1, PARTS + 1)]
    return reduce(add, (_breached(one, settings, iterations, marks) for one in victims))


def _breached(one: Victim, settings: Tuned, iterations: int, marks: Sequence[int]) -> Outcome:
    found = breached(one, settings, iterations, marks=marks)
    quality, likeness = scored(one, found.images)
    way = [scored(one, _pixels(one, mark.images))[0] for mark in found.trace]
    way += [quality] * (len(marks) - len(way))  # where its objective was no longer finite
    return Outcome(tuple(quality), tuple(likeness), found.seconds, tuple(map(tuple, way)))


def _ours(victims: Sequence[Victim], attack: AttackSettings) -> Outcome:
    outcome = Outcome()
    for one in victims:
        found = attacked(one, attack)
        quality, likeness = scored(one, found.images)
        outcome += Outcome(tuple(quality), tuple(likeness), found.seconds)
    return outcome


def _pixels(one: Victim, images: Tensor) -> Tensor:
    mean_, std = (
        torch.tensor(values).view(1, -1, 1, 1) for values in (one.knowledge.mean, one.knowledge.std)
    )
    return (images * std + mean_).clamp(0, 1)


def _figures(line: Line) -> list[Figure]:
    named = [("breaching", line.published), ("breaching tuned", line.tuned)]
    named += [(f"ours, 1/{s} of the iterations" if s > 1 else "ours", line.ours[s]) for s in SHARES]
    figures = [
        Figure(f"{line.name}: an iteration of breaching", "s", line.seconds),
        Figure(f"{line.name}: breaching's time over ours, an iteration", "", line.ratios),
    ]
    for name, outcome in named:
        figures.append(Figure(f"{line.name}: {name}, PSNR", "dB", outcome.psnr))
        figures.append(Figure(f"{line.name}: {name}, SSIM", "", outcome.ssim))
    if line.accuracy is not None:
        figures.append(Figure(f"{line.name}: test accuracy", "", [line.accuracy]))
    return figures


def _claims(line: Line) -> list[Claim]:
    ratio = median(line.ratios)
    gap = mean(line.ours[1].psnr) - mean(line.published.psnr)
    settled = line.tuned.seconds * line.tuned.settled
    return [
        Claim(f"{line.name}: an iteration is {ratio:.2f} times as fast", ratio >= 1),
        Claim(f"{line.name}: at equal iterations the mean PSNR is {gap:+.1f} dB", gap >= -0.5),
        _sooner(line, "breaching", line.published, line.published.seconds / GOAL),
        _sooner(line, "tuned breaching", line.tuned, settled / TUNED_GOAL),
    ]


def _sooner(line: Line, name: str, rival: Outcome, goal: float) -> Claim:
    seconds = line.reached(rival)
    if seconds is None:
        return Claim(f"{line.name}: {name}'s mean PSNR is never reached", holds=False)
    whole, settled = seconds / rival.seconds, seconds / (rival.seconds * rival.settled)
    return Claim(
        f"{line.name}: {name}'s mean PSNR is reached in {whole:.3f} of its time, {settled:.2f} of "
        "what it takes to come within 0.1 dB of it",
        seconds <= goal,
    )
