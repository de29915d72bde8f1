"""Growth of time and memory with the number of rounds and of virtual clients.

A cohort of 100 out of 100 and out of 10,000 clients, and a federation of ten clients in its first
and in its last hundred of 1,000 rounds, each in a new process.
"""

import time
from dataclasses import dataclass
from statistics import median

from benchmarks.fresh import fresh, peak_memory
from benchmarks.options import Options
from benchmarks.racers import warm_up
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data, Engine, Model, Server, Training

REPEATS = 3
ROUNDS = 8
COHORT = 100
EACH = 20
"""Images of a client."""

MOST_GROWTH = 96.0
"""MiB that 9,900 more clients may take beyond their images: 10 kB a client."""

MOST_SLOWER = 1.1
"""CPU time of a round with 9,900 more clients over that without."""

LONG = 1_000
"""Rounds of the long run, of which two stretches are compared."""

EARLY, LATE = slice(10, 110), slice(900, 1_000)

MOST_LATER = 1.05
"""CPU time of a late round over that of an early one."""

MOST_LATER_MEMORY = 64.0
"""MiB by which 890 rounds may grow a run whose ledger they fill with 8,900 entries."""


@dataclass(frozen=True)
class Crowd:
    """The cost of a run with many clients.

    Attributes:
        start: Peak memory before the first round, in MiB.
        end: Peak memory after the last, in MiB.
        data: Size of all images and labels, in MiB.
        seconds: CPU time of each round but the first, in which clients also register.
        introduction: CPU time of the first round.
        folder: Size of the run folder in kilobytes.
    """

    start: float
    end: float
    data: float
    seconds: tuple[float, ...]
    introduction: float
    folder: float


@dataclass(frozen=True)
class Age:
    """The cost of a run of many rounds.

    Attributes:
        seconds: CPU time of each round.
        early: Peak memory after the early stretch, in MiB.
        late: Peak memory after the late stretch, in MiB.
    """

    seconds: tuple[float, ...]
    early: float
    late: float

    @property
    def ratio(self) -> float:
        """Mean CPU time of a late round over that of an early one."""
        return sum(self.seconds[LATE]) / sum(self.seconds[EARLY])


def run(options: Options) -> Report:
    """Measure both numbers of clients, and the long run, in turn."""
    crowds: dict[int, list[Crowd]] = {100: [], 10_000: []}
    ages: list[Age] = []
    for repeat in range(1, (options.repeats or REPEATS) + 1):
        for clients, them in crowds.items():
            them.append(fresh(gather, clients).result)
            took = f"{median(them[-1].seconds):.3f} s a round, {them[-1].end:.0f} MiB"
            console.print(f"repeat {repeat}, {clients} clients: {took}", highlight=False)
        ages.append(fresh(age).result)
        console.print(
            f"repeat {repeat}, late / early rounds: {ages[-1].ratio:.3f}", highlight=False
        )
    pairs = list(zip(crowds[100], crowds[10_000], strict=True))
    growth = [(many.end - many.data) - (few.end - few.data) for few, many in pairs]
    slower = [median(many.seconds) / median(few.seconds) for few, many in pairs]
    later, grown = [each.ratio for each in ages], [each.late - each.early for each in ages]
    return Report(
        title="Do time and memory grow with clients and rounds?",
        settings={
            "cohort": COHORT,
            "rounds": ROUNDS,
            "images of each client": EACH,
            "images": "made up, 8x8, grey, 360 for the test",
            "network": "convnet",
            "long run": f"{LONG} rounds, 10 clients of 60 digits, mlp of width 8",
        },
        figures=[
            *(figure for clients, them in crowds.items() for figure in _figures(clients, them)),
            Figure("9,900 more clients, images subtracted", "MiB", growth),
            Figure("CPU time of a round, 10,000 / 100 clients", "", slower),
            Figure("long run: an early round", "s", [s for a in ages for s in a.seconds[EARLY]]),
            Figure("long run: a late round", "s", [s for a in ages for s in a.seconds[LATE]]),
            Figure("long run: late / early rounds, CPU time", "", later),
            Figure("long run: memory, late - early", "MiB", grown),
        ],
        claims=[
            Claim.at_most(
                "MiB of 9,900 more clients beyond their images", median(growth), MOST_GROWTH
            ),
            Claim.at_most("a round of 10,000 / 100 clients, CPU time", median(slower), MOST_SLOWER),
            Claim.at_most(
                "rounds 900 to 1,000 / rounds 10 to 110, CPU time", median(later), MOST_LATER
            ),
            Claim.at_most(
                "MiB by which 890 rounds grow the process", median(grown), MOST_LATER_MEMORY
            ),
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
        started = time.process_time()
        federation.step()
        seconds.append(time.process_time() - started)
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


def age() -> Age:
    """Run a federation of many rounds; call it in a new process."""
    from fedlab.simulation.federation import Federation

    scenario = Scenario(
        name="age",
        rounds=LONG,
        data=Data(source="digits", train=600, test=200, clients=10),
        model=Model(name="mlp", width=8),
        training=Training(batch_size=10, lr=0.02),
        engine=Engine(device="cpu", threads=THREADS, workers=1),
    )
    warm_up(scenario)
    federation = Federation(scenario)
    seconds, early = [], 0.0
    for done in range(1, LONG + 1):
        started = time.process_time()
        federation.step()
        seconds.append(time.process_time() - started)
        if done == EARLY.stop:
            early = peak_memory()
    return Age(tuple(seconds), early, peak_memory())


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
