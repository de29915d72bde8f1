"""Growth of memory with the number of virtual clients, beyond the images of the clients.

Five rounds with a cohort of 50 out of 100 and out of 1,000 clients, each in a new process.
"""

import time
from dataclasses import dataclass
from statistics import median

from benchmarks.fresh import fresh, peak_memory
from benchmarks.options import Options
from benchmarks.racers import warm_up
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data, Engine, Server, Training

REPEATS = 3
ROUNDS = 5
COHORT = 50
EACH = 20
"""Images of a client."""

MOST_GROWTH = 32.0
"""MiB that 900 more clients may take beyond their images; two equal runs differ by a few."""


@dataclass(frozen=True)
class Crowd:
    """The cost of a run with many clients.

    Attributes:
        start: Peak memory before the first round, in MiB.
        end: Peak memory after the last, in MiB.
        data: Size of all images and labels, in MiB.
        seconds: Wall time of each round but the first, in which clients also register.
        introduction: Wall time of the first round.
        folder: Size of the run folder in kilobytes.
    """

    start: float
    end: float
    data: float
    seconds: tuple[float, ...]
    introduction: float
    folder: float


def run(options: Options) -> Report:
    """Measure both numbers of clients in turn."""
    crowds: dict[int, list[Crowd]] = {100: [], 1_000: []}
    for repeat in range(options.repeats or REPEATS):
        for clients, them in crowds.items():
            them.append(fresh(gather, clients).result)
            console.print(
                f"repeat {repeat + 1}, {clients} clients: {them[-1].end:.0f} MiB", highlight=False
            )
    growth = [
        (many.end - many.data) - (few.end - few.data)
        for few, many in zip(crowds[100], crowds[1_000], strict=True)
    ]
    figures = [figure for clients, them in crowds.items() for figure in _figures(clients, them)]
    return Report(
        title="Does memory grow with the number of clients?",
        settings={
            "cohort": COHORT,
            "rounds": ROUNDS,
            "images of each client": EACH,
            "images": "made up, 8x8, grey, 360 for the test",
            "network": "convnet",
        },
        figures=[*figures, Figure("900 more clients, images subtracted", "MiB", growth)],
        claims=[
            Claim(
                f"900 more clients take {median(growth):.1f} MiB beyond their images, "
                f"at most {MOST_GROWTH:.0f}",
                median(growth) <= MOST_GROWTH,
            )
        ],
    )


def gather(clients: int) -> Crowd:
    """Run a federation of many clients; call it in a new process."""
    from fedlab.simulation.federation import Federation

    scenario = Scenario(
        name="crowd",
        rounds=ROUNDS,
        data=Data(source="factory", factory=f"benchmarks.images:for_{clients}", clients=clients),
        training=Training(batch_size=10, lr=0.02),
        server=Server(cohort=COHORT),
        engine=Engine(device="cpu", threads=THREADS, workers=1),
    )
    warm_up(scenario)
    federation = Federation(scenario)
    start, seconds = peak_memory(), []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        federation.step()
        seconds.append(time.perf_counter() - started)
    data = federation.federated.data
    tensors = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    return Crowd(
        start=start,
        end=peak_memory(),
        data=sum(tensor.nbytes for tensor in tensors) / 2**20,
        seconds=tuple(seconds[1:]),
        introduction=seconds[0],
        folder=federation.folder.size() / 1e3,
    )


def _figures(clients: int, them: list[Crowd]) -> list[Figure]:
    name = f"{clients:,} clients"
    return [
        Figure(f"{name}: peak memory", "MiB", [crowd.end for crowd in them]),
        Figure(f"{name}: peak before the first round", "MiB", [crowd.start for crowd in them]),
        Figure(f"{name}: all images", "MiB", [crowd.data for crowd in them]),
        Figure(f"{name}: peak, images subtracted", "MiB", [c.end - c.data for c in them]),
        Figure(f"{name}: a round", "s", [second for crowd in them for second in crowd.seconds]),
        Figure(f"{name}: first round", "s", [crowd.introduction for crowd in them]),
        Figure(f"{name}: run folder", "kB", [crowd.folder for crowd in them]),
    ]
