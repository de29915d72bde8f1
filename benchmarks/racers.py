"""One federation, run by hand, in one process, in several, with every reply kept, and on Ray.

Each is called in a new process and imports only what it needs, so that its memory can be
measured.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from benchmarks.family import FamilyMemory
from fedlab.core.devices import prepare
from fedlab.results.rows import RoundRow
from fedlab.scenario.scenario import Scenario


@dataclass(frozen=True)
class Outcome:
    """The cost and the result of a run.

    Attributes:
        seconds: Wall time of all rounds, without imports, data and the first evaluation.
        weights: SHA-256 hash of the final weights.
        accuracy: Accuracy of the final weights on the test images.
        folder: Size of the run folder in megabytes.
        family_peak: Peak memory of all its processes together in MiB, where there are several.
        later: Median wall time of a round after the first two, in which processes start.
    """

    seconds: float
    weights: str
    accuracy: float
    folder: float = 0.0
    family_peak: float = 0.0
    later: float = 0.0


def by_hand(scenario: Scenario) -> Outcome:
    """Run the bare loop."""
    from benchmarks.bare import rounds
    from fedlab.server.captures import digest

    warm_up(scenario)
    seconds = []
    for done in rounds(scenario):
        seconds.append(done.seconds)
    weights = digest({name: value.cpu() for name, value in done.state.items()})
    return Outcome(sum(seconds), weights, done.accuracy, later=median(seconds[2:] or seconds))


def in_process(scenario: Scenario) -> Outcome:
    """Run a Federation with reply checks, ledger and run folder."""
    from fedlab.server.captures import digest
    from fedlab.simulation.federation import Federation

    warm_up(scenario)
    federation = Federation(scenario)
    started = time.perf_counter()
    folder = federation.run()
    seconds = time.perf_counter() - started
    rows = folder.rounds()
    weights, size = digest(federation.state), folder.size() / 1e6
    return Outcome(seconds, weights, rows[-1].accuracy, size, later=_later(rows))


def in_workers(scenario: Scenario) -> Outcome:
    """Run a Federation in several processes, from when all have started."""
    from fedlab.server.captures import digest
    from fedlab.simulation.federation import Federation

    warm_up(scenario)
    federation = Federation(scenario)
    federation.wait_for_workers()
    with FamilyMemory() as memory:
        started = time.perf_counter()
        folder = federation.run()
        seconds = time.perf_counter() - started
    rows = folder.rounds()
    weights, size = digest(federation.state), folder.size() / 1e6
    return Outcome(seconds, weights, rows[-1].accuracy, size, memory.peak, _later(rows))


def on_ray(scenario: Scenario) -> Outcome:
    """Run a Federation in two processes on Ray; the seconds are those of its rounds."""
    from fedlab.server.captures import digest
    from fedlab.simulation.federation import Federation

    engine = {**dict(scenario.engine), "name": "ray", "workers": 2}
    with FamilyMemory() as memory:
        federation = Federation(scenario.changed(engine=engine))
        folder = federation.run()
    rows = folder.rounds()
    seconds = sum(row.seconds for row in rows)
    weights, size = digest(federation.state), folder.size() / 1e6
    return Outcome(seconds, weights, rows[-1].accuracy, size, memory.peak, _later(rows))


def _later(rows: Sequence[RoundRow]) -> float:
    return median(row.seconds for row in rows if row.round > 2)


def warm_up(scenario: Scenario) -> None:
    """Take one step of SGD: PyTorch's first one imports its compiler, which takes seconds."""
    prepare(scenario.engine.threads)
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(1, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.zeros(1, 1, 3, 3)).sum().backward()
    optimizer.step()
