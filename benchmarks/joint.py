"""Several rounds of the same images attacked jointly, and long local training as one gradient.

Ten clients train on a few images each, all of them in every round. The images of one client are
attacked from one round and from several, and its local steps are simulated one by one, taken for
one gradient at the global weights, or for one at a point that is found along with the images (SME).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median

from pydantic import TypeAdapter

from attacks.reconstruction.presets import FAST
from benchmarks.kept import Kept, stamp
from benchmarks.options import Options, data_sets
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.metrics.verdict import LEAKS
from fedlab.results.rows import LeakageRow
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Captures, Data, Engine, Model, Training
from fedlab.simulation.federation import Federation

SETS = ("cifar10", "fashion_mnist")

LARGE = ("cifar10", 96)
"""Data set, and more images of one batch than are attacked by default, with the first seed."""

CLIENTS, SEEDS, WIDTH, PUBLIC = 10, 2, 32, 2_000

BESIDE = (5, 0.05)
"""Epochs and learning rate of the clients beside one that sends the gradient of one batch."""

MANY = 16
"""Images of a batch of which several rounds are claimed to give away more than one."""

ROUNDS, FEWER = 8, 4
"""Largest number of rounds of gradients, and of weights, that are attacked jointly."""

UNROLLED = 20
"""Largest number of images in all local steps together for these to be simulated one by one."""

ATTACK = replace(FAST, smoothing=1.0, chroma=0.25, lr=0.3, tv_start=15.0, tv=0.03, iterations=200)
"""The first candidate of the preset ``auto``."""

ONE_BATCH = "gradient of one batch"

GENTLE = (20, 0.004)

CELLS = (
    *(("cifar10", 4, each) for each in (None, (1, 0.004), (5, 0.004), GENTLE, (20, 0.02))),
    *(("cifar10", MANY, each) for each in (None, (5, 0.004), GENTLE)),
    *(("fashion_mnist", MANY, each) for each in (None, GENTLE)),
    (*LARGE, None),
)
"""Data set, images of a client, and its epochs, in batches of a quarter of the images, and learning
rate; ``None`` for the gradient of one batch."""


@dataclass(frozen=True)
class Way:
    """A way to attack an update.

    Attributes:
        last: Last of the attacked rounds.
        rounds: Number of rounds that are attacked jointly.
        local_steps: Value of the key of this name.
    """

    last: int
    rounds: int = 1
    local_steps: str = "unroll"

    def __str__(self) -> str:
        jointly = f"{self.rounds} rounds" if self.rounds > 1 else f"round {self.last}"
        return f"{self.local_steps}, {jointly}"


@dataclass(frozen=True)
class Outcome:
    """What one attack found.

    Attributes:
        psnr: PSNR of each image in dB, as the verdict compares it with chance.
        chance: Chance PSNR of each image in dB.
        leaks: Number of images that leak.
        seconds: CPU time of the attack in seconds.
        mismatch: One minus the largest cosine between the update of the first round and one
            gradient of the true images between the weights before and after; NaN for one step.
    """

    psnr: list[float]
    chance: list[float]
    leaks: int
    seconds: float
    mismatch: float


def ways(images: int, epochs: int | None) -> list[Way]:
    """The ways to attack the gradient of a batch, or weights after some epochs."""
    if epochs is None and images == LARGE[1]:
        return [Way(1), Way(FEWER, FEWER)]
    if epochs is None:
        return [Way(1), Way(2, 2), Way(4, 4), Way(ROUNDS, ROUNDS), Way(ROUNDS)]
    unrolled = [Way(1)] if epochs * images <= UNROLLED else []
    single = [Way(1, 1, each) for each in ("gradient", "surrogate")]
    return [*unrolled, *single, Way(FEWER, FEWER, "surrogate")]


def scenario(
    source: str, images: int, training: tuple[int, float] | None, *, seed: int, device: str
) -> Scenario:
    """Clients that train on their images, of which the first sends gradients without training."""
    epochs, lr = training or BESIDE
    leaking = Leaking(clients="0", batch_size=images)
    return Scenario(
        name="several rounds",
        seed=seed,
        rounds=FEWER if training else ROUNDS,
        data=Data(source=source, train=CLIENTS * images, test=PUBLIC, clients=CLIENTS),
        model=Model(name="convnet", width=WIDTH),
        training=Training(lr=lr, epochs=epochs, batch_size=images // 4),
        roles=() if training else (leaking,),
        captures=Captures(keep="all"),
        engine=Engine(device=device, threads=THREADS, workers=1),
    )


def attacked(planned: Scenario, chosen: Sequence[Way]) -> Iterator[Outcome]:
    """Run a federation, and attack its first client in several ways."""
    federation = Federation(planned)
    federation.run()
    for way in chosen:
        started = time.process_time()
        leak = federation.reconstruct(
            round=way.last,
            client=0,
            preset="benchmarks.joint:ATTACK",
            rounds_jointly=way.rounds,
            local_steps=way.local_steps,
            most_images=LARGE[1],
            power=False,
        )
        seconds = time.process_time() - started
        rows: Sequence[LeakageRow] = leak.rows
        yield Outcome(
            psnr=[row.graded_psnr for row in rows],
            chance=[row.chance_psnr for row in rows],
            leaks=sum(row.verdict == LEAKS for row in rows),
            seconds=seconds,
            mismatch=1 - federation.consistency(round=1, client=0).one_gradient,
        )


Outcomes = dict[str, Outcome]


def run(options: Options) -> Report:
    """Attack the clients of all federations.

    Raises:
        BadInput: If there is no folder with the data sets.
    """
    files = data_sets(options, SETS)
    keep = Kept(options.cells, stamp(*files, Path(__file__)), TypeAdapter(Outcome))
    arms: dict[str, list[Outcomes]] = {}
    for seed, (name, images, training) in product(range(options.repeats or SEEDS), CELLS):
        if images == LARGE[1] and seed:
            continue
        trained = "{} epochs at {:g}".format(*training) if training else ONE_BATCH
        arm = f"{name}, {images} images, {trained}"
        chosen = {f"{arm}, {seed}, {way}": way for way in ways(images, training and training[0])}
        left = {name: way for name, way in chosen.items() if name not in keep.results}
        if left:
            source = f"npz:{(options.data or Path()) / name}.npz"
            planned = scenario(source, images, training, seed=seed, device=options.device)
            for each, outcome in zip(left, attacked(planned, [*left.values()]), strict=True):
                keep.add(each, outcome)
        found = {str(way): keep.results[each] for each, way in chosen.items()}
        arms.setdefault(arm, []).append(found)
        _print(arm, arms[arm][-1])
    return Report(
        title="What do several rounds of the same images, and long local training, give away?",
        settings={
            "clients": f"{CLIENTS}, which train on all of their images in every round",
            "network": f"convnet of width {WIDTH}, untrained in round 1",
            "training": "SGD in batches of a quarter of the images; beside the gradient of one "
            "batch the others train for {} epochs at {:g}".format(*BESIDE),
            "attack": f"the first candidate of auto, {ATTACK.iterations} iterations, labels known",
            "mismatch": "one minus the largest cosine of the update with one gradient of the true "
            "images between the weights before and after",
        },
        figures=[figure for arm in arms.items() for figure in _figures(*arm)],
        claims=_claims(arms),
    )


def _print(arm: str, outcomes: Outcomes) -> None:
    for way, each in outcomes.items():
        console.print(
            f"{arm}, {way}: {median(each.psnr):.1f} dB (chance {median(each.chance):.1f}), "
            f"{each.leaks} of {len(each.psnr)} leak, {each.seconds:.1f} s, mismatch "
            f"{each.mismatch:.3f}",
            highlight=False,
            soft_wrap=True,
        )


def _figures(arm: str, runs: Sequence[Outcomes]) -> list[Figure]:
    first = next(iter(runs[0]))
    chance = [psnr for run in runs for psnr in run[first].chance]
    found = [Figure(f"{arm}: chance PSNR", "dB", chance)]
    if ONE_BATCH not in arm:
        found.append(Figure(f"{arm}: mismatch", "", [run[first].mismatch for run in runs]))
    for way in runs[0]:
        each = [run[way] for run in runs]
        found += [
            Figure(f"{arm}, {way}: PSNR", "dB", [psnr for one in each for psnr in one.psnr]),
            Figure(f"{arm}, {way}: leaks", "", [one.leaks / len(one.psnr) for one in each]),
            Figure(f"{arm}, {way}: an attack", "s", [one.seconds for one in each]),
        ]
    return found


def _claims(arms: Mapping[str, Sequence[Outcomes]]) -> list[Claim]:
    def gain(arm: str, way: Way, other: Way) -> float:
        return fmean(fmean(run[str(way)].psnr) - fmean(run[str(other)].psnr) for run in arms[arm])

    claims = []
    for arm, runs in arms.items():
        if str(Way(ROUNDS)) in runs[0] and f" {MANY} images" in arm:
            gains = [gain(arm, Way(ROUNDS, ROUNDS), Way(each)) for each in (1, ROUNDS)]
            text = "{:.1f} dB above the first alone and {:.1f} dB above the last".format(*gains)
            claims.append(Claim(f"{arm}: {ROUNDS} rounds jointly are {text}", min(gains) > 0))
        elif ONE_BATCH not in arm and " 1 epochs" not in arm:
            better = gain(arm, Way(1, 1, "surrogate"), Way(1, 1, "gradient"))
            text = f"{arm}: a surrogate point gains {better:.1f} dB over the global weights"
            claims.append(Claim(text, better > 0))
    return claims
