"""The self-tuning attack beside breaching and beside its own candidates, each at its best.

All have the same weights, updates, labels and threads. ``auto`` chooses its settings on surrogate
victims, made of other images, once for the clients of a round. Breaching gets the same processor
time, the tuning included, at each of six weights of the total variation, of which the best on the
scored images counts. So does the best of all candidates of ``auto``, at equal iterations.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median

import torch
from pydantic import TypeAdapter
from torch import nn

from attacks.reconstruction import PRESETS, AttackSettings
from attacks.reconstruction.candidates import candidates
from attacks.reconstruction.tuning import SurrogateVictim, Tuning, tune
from benchmarks.families import PUBLISHED
from benchmarks.kept import Kept, stamp
from benchmarks.options import Options, cifar
from benchmarks.report import THREADS, Claim, Figure, Report, console
from benchmarks.rivals import attacked, breached, scored
from benchmarks.victims import CLASSES, Victim, trained, victim
from fedlab.core.errors import BadInput
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.evaluation.self_tuning import VICTIMS
from fedlab.evaluation.tuning_budget import BUDGET, quality_of
from fedlab.models import build

GOAL = 3.0
"""dB that the median network and batch gains on breaching."""

SHORT = 0.5
"""dB that a choice without hindsight may lose against the best candidate."""

WEIGHTS = (1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5)
"""Weights of the total variation for breaching."""

CLIENTS: Mapping[int, int] = {1: 6, 4: 3}
"""Number of attacked clients of a round for each batch size, on networks that are not slow."""

FIRST_SURROGATE, FIRST_SCORED = 740, 1_540
"""First test image of the surrogate and of the scored clients; development used images below 720,
from 1,000 to 1,300 and from 1,500 to 1,520."""

TIMED = 24
"""Iterations of breaching that are timed, after as many that are not."""


@dataclass(frozen=True)
class Network:
    """A network and what can be afforded on it.

    Attributes:
        name: Name in ``fedlab.models``.
        width: Number of channels; ``None`` for the network's own.
        iterations: Iterations of an attack with our settings.
        epochs: Number of epochs after which it counts as trained.
        slow: Whether only a third of the clients can be afforded.
    """

    name: str
    width: int | None
    iterations: int
    epochs: int = 6
    slow: bool = False

    def __str__(self) -> str:
        """Name and width."""
        return self.name if self.width is None else f"{self.name} {self.width}"


NETWORKS = (
    Network("convnet", 8, 300),
    Network("convnet", 16, 300),
    Network("convnet", 32, 300),
    Network("lenet", None, 300),
    Network("convnet8", 32, 60, slow=True),
    Network("resnet8", None, 60, epochs=3),
    Network("resnet18", 64, 30, epochs=1, slow=True),
)


@dataclass(frozen=True)
class Cell:
    """One network, batch size and state of training.

    Attributes:
        network: The network.
        batch: Number of images of each client.
        trained: Whether the network was trained before.
    """

    network: Network
    batch: int
    trained: bool

    def __str__(self) -> str:
        """The cell in words."""
        images = "1 image" if self.batch == 1 else f"{self.batch} images"
        return f"{'trained ' if self.trained else ''}{self.network}, {images}"

    @property
    def clients(self) -> int:
        """Number of attacked clients."""
        return CLIENTS[self.batch] // (3 if self.network.slow else 1)


@dataclass(frozen=True)
class Result:
    """PSNR in dB of each scored image of a cell, and what the attacks cost.

    Attributes:
        auto: PSNR of the images that ``auto`` rebuilt.
        breaching: The same for breaching, by the weight of the total variation.
        grid: The same for each candidate of ``auto``, by its description.
        choice: What ``auto`` chose.
        seconds: Processor time of ``auto`` for all clients, tuning included.
        tuning: Seconds of this that the tuning took.
        iterations: Iterations of breaching for each client.
        accuracy: Test accuracy of the network, if it was trained.
    """

    auto: list[float]
    breaching: dict[str, list[float]]
    grid: dict[str, list[float]]
    choice: str
    seconds: float
    tuning: float
    iterations: int
    accuracy: float | None

    @property
    def rival(self) -> str:
        """Weight of the total variation that is best for breaching."""
        return max(self.breaching, key=lambda weight: mean(self.breaching[weight]))

    @property
    def best(self) -> str:
        """Description of the candidate that is best on the scored images."""
        return max(self.grid, key=lambda one: mean(self.grid[one]))

    @property
    def gain(self) -> float:
        """Mean PSNR of ``auto`` above that of breaching, in dB."""
        return mean(self.auto) - mean(self.breaching[self.rival])

    @property
    def regret(self) -> float:
        """Mean PSNR of ``auto`` below that of the best candidate, in dB."""
        return mean(self.grid[self.best]) - mean(self.auto)


def run(options: Options) -> Report:
    """Measure all cells, or those of some networks, but those that a file keeps.

    Raises:
        BadInput: If there are no images, or a network is unknown.
    """
    path = cifar(options)
    if options.repeats or options.device != "cpu":
        raise BadInput("--repeats and --device are not for the benchmark tuned, which is fixed")
    cells = [
        Cell(network, batch, after)
        for network in _networks(options.networks)
        for after in (False, True)
        for batch in CLIENTS
    ]
    keep = Kept(options.cells, stamp(Path(path), Path(__file__)), TypeAdapter(Result))
    missing = [cell for cell in cells if str(cell) not in keep.results]
    with get_context("spawn").Pool(options.processes) as pool:
        for name, result in pool.imap_unordered(partial(measured, path=path), missing):
            keep.add(name, result)
            console.print(f"{name}: gain {result.gain:+.1f} dB, regret {result.regret:+.1f} dB")
    results = {str(cell): keep.results[str(cell)] for cell in cells}
    left = [str(network) for network in NETWORKS if network not in {c.network for c in cells}]
    return Report(
        title="How well does an attack that tunes itself do, beside breaching and its own best?",
        settings={
            "images": f"CIFAR-10 test images from {FIRST_SCORED} on, none left out",
            "surrogates": f"{VICTIMS} clients with test images from {FIRST_SURROGATE} on",
            "breaching": "0.1.2, inverting gradients, the best of six total variations",
            "time": "equal processor time for auto and breaching, one thread; all clients of a "
            "network, batch size and state of training share one tuning",
            "labels": "known to all; networks in evaluation mode",
            "networks left out": ", ".join(left) or "none",
        },
        figures=[figure for name, result in results.items() for figure in _figures(name, result)],
        claims=_claims(results),
    )


def measured(cell: Cell, path: str) -> tuple[str, Result]:
    """Attack the clients of a cell with all attackers, in a process of its own."""
    torch.set_num_threads(THREADS)
    data = load(f"npz:{path}")
    network = cell.network
    model = build(network.name, shape=data.shape, classes=CLASSES, width=network.width, seed=0)
    accuracy = None
    if cell.trained:
        model, accuracy = trained(data, model, epochs=network.epochs)
    model.eval()
    clients = _clients(model, data, cell.batch, FIRST_SCORED, cell.clients)
    surrogates = [
        SurrogateVictim(one.state, one.payload, one.knowledge, quality_of(one.pixels))
        for one in _clients(model, data, cell.batch, FIRST_SURROGATE, VICTIMS)
    ]
    base = replace(PRESETS["auto"], iterations=network.iterations)
    tried = candidates(
        base,
        surrogates[0].payload,
        surrogates[0].knowledge,
        sent=surrogates[0].global_state,
        fixed={},
    )
    started = time.process_time()
    tuning = tune(model, surrogates, tried, budget=BUDGET * network.iterations, seed=0)
    tuned = time.process_time() - started
    auto = _ours(clients, tuning.attack)
    seconds = time.process_time() - started
    breached(clients[0], PUBLISHED, TIMED)
    one_iteration = breached(clients[0], PUBLISHED, TIMED).processor_seconds / TIMED
    iterations = max(1, round(seconds / len(clients) / one_iteration))
    return str(cell), Result(
        auto=auto,
        breaching={f"{tv:g}": _theirs(clients, tv, iterations) for tv in WEIGHTS},
        grid=dict(_grid(clients, tried)),
        choice=tuning.choice,
        seconds=seconds,
        tuning=tuned,
        iterations=iterations,
        accuracy=accuracy,
    )


def _networks(names: str | None) -> list[Network]:
    """The networks with these names, separated by commas; all without names."""
    known = {str(network): network for network in NETWORKS}
    chosen = names.split(",") if names else list(known)
    if unknown := [name for name in chosen if name not in known]:
        raise BadInput(f'--networks has no "{unknown[0]}"; known: {", ".join(known)}')
    return [known[name] for name in chosen]


def _clients(model: nn.Module, data: ImageData, batch: int, first: int, count: int) -> list[Victim]:
    starts = range(first, first + count * batch, batch)
    return [victim(model, data, list(range(start, start + batch))) for start in starts]


def _ours(clients: Sequence[Victim], attack: AttackSettings) -> list[float]:
    """PSNR of each image in dB."""
    found = [(one, attacked(one, attack).images) for one in clients]
    return [value for one, images in found for value in scored(one, images)[0]]


def _theirs(clients: Sequence[Victim], tv: float, iterations: int) -> list[float]:
    """PSNR of each image in dB."""
    settings = replace(PUBLISHED, tv=tv)
    found = [scored(one, breached(one, settings, iterations).images)[0] for one in clients]
    return [value for each in found for value in each]


def _grid(
    clients: Sequence[Victim], tried: Sequence[AttackSettings]
) -> Iterator[tuple[str, list[float]]]:
    """Description and PSNR of each candidate that works on the clients."""
    for number, attack in enumerate(tried, 1):
        with suppress(ValueError):  # such as the analytic method on a convolution
            yield f"{number}: {Tuning(attack).choice}", _ours(clients, attack)


def _figures(name: str, result: Result) -> list[Figure]:
    figures = [
        Figure(f"{name}: auto, PSNR", "dB", result.auto),
        Figure(f"{name}: breaching, PSNR", "dB", result.breaching[result.rival]),
        Figure(f"{name}: best candidate in hindsight, PSNR", "dB", result.grid[result.best]),
        Figure(f"{name}: total variation of breaching", "", [float(result.rival)]),
        Figure(f"{name}: iterations of breaching", "", [result.iterations]),
        Figure(f"{name}: time of auto", "s", [result.seconds]),
        Figure(f"{name}: of this the tuning", "s", [result.tuning]),
    ]
    if result.accuracy is not None:
        figures.append(Figure(f"{name}: test accuracy", "", [result.accuracy]))
    return figures


def _claims(results: Mapping[str, Result]) -> list[Claim]:
    gains = {name: result.gain for name, result in results.items()}
    regrets = {name: result.regret for name, result in results.items()}
    worst, lost = min(gains, key=gains.__getitem__), max(regrets, key=regrets.__getitem__)
    gain = median(gains.values())
    count = len(results)
    return [
        Claim(f"median gain on breaching over {count} cells is {gain:+.1f} dB", gain >= GOAL),
        Claim(f"least gain on breaching is {gains[worst]:+.1f} dB ({worst})", gains[worst] >= 0),
        Claim(
            f"most lost against the best candidate is {regrets[lost]:.1f} dB ({lost}), the median "
            f"{median(regrets.values()):.1f} dB",
            regrets[lost] <= SHORT,
        ),
    ]
