"""The attacker beside breaching's: same weights, images, labels and threads, in one run.

Breaching runs twice: with its Inverting Gradients settings at total variation 1e-6, its schedule
scaled to the budget, and as chosen in ``benchmarks.tuning``, which tries the same changes on ours,
on other images. Ours runs at the same number of iterations and at shares of it. Nothing that
chooses an iterate, a restart or the end of an attack sees the true images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import mean, median

import torch
from torch import Tensor

from attacks.knowledge import LocalSGD
from attacks.reconstruction import PRESETS, Attack
from benchmarks.options import Options
from benchmarks.report import THREADS, Claim, Figure, Report, console
from benchmarks.tuning import BREACHING, OURS, PUBLISHED, Family, Tuned, attacked, breached
from benchmarks.victims import Victim, trained, untrained, victim
from fedlab.data.sources import load
from fedlab.errors import BadInput
from fedlab.evaluation.images import match, psnr
from fedlab.evaluation.similarity import ssim

SHARES = (16, 8, 4, 2, 1)
"""Our budgets as parts of breaching's iterations, from a sixteenth to all of them."""

WIDTHS = {"convnet8": 32, "resnet18": 64}

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

LOCAL = LocalSGD(lr=1e-3, epochs=1, batch_size=1)
"""Four images in four local steps: breaching's own FedAvg case."""


@dataclass(frozen=True)
class Setting:
    """One line of the comparison.

    Attributes:
        name: What is attacked.
        network: ``convnet8``, ``resnet18`` or ``trained``.
        batches: Places of the test images of each victim.
        iterations: Of breaching.
        local: Local steps instead of one gradient.
    """

    name: str
    network: str
    batches: tuple[tuple[int, ...], ...]
    iterations: int
    local: LocalSGD | None = None


SETTINGS = (
    Setting("convnet8 of width 32, 1 image", "convnet8", tuple((i,) for i in range(8)), 400),
    Setting("convnet8 of width 32, 4 images", "convnet8", ((0, 1, 2, 3), (4, 5, 6, 7)), 240),
    Setting("convnet8 of width 32, 8 images", "convnet8", (tuple(range(8)),), 160),
    Setting("convnet8, 4 images in 4 local steps", "convnet8", ((0, 1, 2, 3),), 128, LOCAL),
    Setting("trained convnet of width 32, 1 image", "trained", tuple((i,) for i in range(8)), 600),
    Setting("resnet18, 1 image", "resnet18", ((0,), (1,)), 160),
    Setting("resnet18, 4 images", "resnet18", ((0, 1, 2, 3),), 64),
)


@dataclass(frozen=True)
class Outcome:
    """What one attacker reached on all victims of a setting.

    Attributes:
        psnr: dB of each image.
        ssim: Of each image.
        seconds: Of all attacks together.
        settled: Share of that after which the mean PSNR was within ``CLOSE`` of the final one.
    """

    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    seconds: float
    settled: float = 1.0


@dataclass(frozen=True)
class Line:
    """One setting, measured.

    Attributes:
        name: Of the setting.
        ratios: Breaching's time for an iteration over ours, block by block.
        seconds: Of one iteration of breaching, block by block.
        published: Breaching with its Inverting Gradients settings.
        tuned: Breaching, tuned.
        ours: By the share of the iterations.
        accuracy: Of the network on the test images, where it was trained.
    """

    name: str
    ratios: tuple[float, ...]
    seconds: tuple[float, ...]
    published: Outcome
    tuned: Outcome
    ours: dict[int, Outcome]
    accuracy: float | None

    def reached(self, rival: Outcome) -> float | None:
        """Seconds of our shortest attack that ends at a rival's mean PSNR, if one does."""
        for share in SHARES:
            if mean(self.ours[share].psnr) >= mean(rival.psnr):
                return self.ours[share].seconds
        return None


def run(options: Options) -> Report:
    """Attack all victims with all attackers, two settings at a time.

    Raises:
        BadInput: If there are no images.
    """
    if options.data is None or not options.data.is_file():
        raise BadInput("no images: name an .npz of CIFAR-10 with --data")
    if options.repeats:
        raise BadInput("--repeats is not for the benchmark reconstruction, whose images are fixed")
    tasks = [(setting, str(options.data)) for setting in SETTINGS]
    with get_context("spawn").Pool(2) as pool:
        lines = pool.starmap(measured, tasks, chunksize=1)
    figures = [figure for line in lines for figure in _figures(line)]
    against, gain = restarted(str(options.data))
    figures += [
        Figure(f"{RESTARTS} restarts on two threads: breaching's time over ours", "", against),
        Figure(f"{RESTARTS} restarts on two threads: one by one over side by side", "", gain),
    ]
    return Report(
        title="How fast and how well does the attacker rebuild images, beside breaching?",
        settings={
            "images": "CIFAR-10 test images 0 to 7 in class order, none left out",
            "breaching": "0.1.2, inverting gradients, total variation 1e-6, and tuned",
            "ours": "preset spectrum",
            "labels": "known to both; networks in evaluation mode, untrained unless said",
            "processes": "two settings at a time, one thread each",
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


def restarted(path: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """On two threads: breaching's time over ours, and ours one by one over side by side."""
    data = load(f"npz:{path}")
    one = victim(untrained("convnet8", data, width=32), data, [0])
    attack = replace(PRESETS["inverting-gradients"], tv=PUBLISHED.tv, restarts=RESTARTS)
    against, gain = [], []
    for _ in range(BLOCKS):
        torch.set_num_threads(2)
        theirs = breached(one, PUBLISHED, TIMED, restarts=RESTARTS).seconds
        serial, parallel = (_loop_seconds(one, attack, workers=workers) for workers in (1, 2))
        against.append(theirs / parallel)
        gain.append(serial / parallel)
    return tuple(against), tuple(gain)


def measured(setting: Setting, path: str) -> Line:
    """Both attackers on all victims of a setting; in a process of its own."""
    torch.set_num_threads(THREADS)
    data = load(f"npz:{path}")
    accuracy: float | None = None
    family: Family = "untrained"
    if setting.network == "trained":
        family = "trained"
        model, accuracy = trained(data)
    else:
        model = untrained(setting.network, data, width=WIDTHS[setting.network])
    victims = [victim(model, data, list(b), local=setting.local) for b in setting.batches]
    ratios, seconds = _timed(victims[0])
    line = Line(
        name=setting.name,
        ratios=ratios,
        seconds=seconds,
        published=_breaching(victims, PUBLISHED, setting.iterations),
        tuned=_breaching(victims, BREACHING[family], setting.iterations),
        ours={
            share: _ours(victims, replace(OURS[family], iterations=setting.iterations // share))
            for share in SHARES
        },
        accuracy=accuracy,
    )
    console.print(f"{setting.name}: done")
    return line


def _timed(one: Victim) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Breaching's time over ours, and its own, for an iteration of the same attack, in turns."""
    ratios, seconds = [], []
    attack = replace(PRESETS["inverting-gradients"], tv=PUBLISHED.tv)
    for _ in range(BLOCKS):
        theirs = breached(one, PUBLISHED, TIMED).seconds
        ratios.append(theirs / _loop_seconds(one, attack))
        seconds.append(theirs / TIMED)
    return tuple(ratios), tuple(seconds)


def _loop_seconds(one: Victim, attack: Attack, *, workers: int = 1) -> float:
    """The loop alone, as breaching's is counted: what more iterations take more."""
    short = attacked(one, replace(attack, iterations=1), workers=workers).seconds
    long = attacked(one, replace(attack, iterations=TIMED + 1), workers=workers).seconds
    return long - short


def _breaching(victims: Sequence[Victim], settings: Tuned, iterations: int) -> Outcome:
    marks = [iterations * part // PARTS for part in range(1, PARTS + 1)]
    found = [breached(one, settings, iterations, marks=marks) for one in victims]
    outcome = _scored(victims, [each.images for each in found])
    on_the_way = [
        mean(_scored(victims, [_pixels(one, each.trace[part].images) for one, each in pairs]).psnr)
        for part in range(PARTS)
        for pairs in [list(zip(victims, found, strict=True))]
    ]
    settled = next(part for part, at in enumerate(on_the_way, 1) if at >= on_the_way[-1] - CLOSE)
    seconds = sum(each.seconds for each in found)
    return replace(outcome, seconds=seconds, settled=settled / PARTS)


def _ours(victims: Sequence[Victim], attack: Attack) -> Outcome:
    found = [attacked(one, attack) for one in victims]
    outcome = _scored(victims, [each.images for each in found])
    return replace(outcome, seconds=sum(each.seconds for each in found))


def _pixels(one: Victim, images: Tensor) -> Tensor:
    mean_, std = (
        torch.tensor(values).view(1, -1, 1, 1) for values in (one.knowledge.mean, one.knowledge.std)
    )
    return (images * std + mean_).clamp(0, 1)


def _scored(victims: Sequence[Victim], rebuilt: Sequence[Tensor]) -> Outcome:
    quality, likeness = [], []
    for one, images in zip(victims, rebuilt, strict=True):
        places, chosen = match(one.pixels, images)
        true, guess = one.pixels[places], images[chosen]
        quality += psnr(true, guess).tolist()
        likeness += ssim(true, guess).tolist()
    return Outcome(tuple(quality), tuple(likeness), seconds=0.0)


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
