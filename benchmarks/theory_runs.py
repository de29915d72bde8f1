"""One federation of the benchmark ``theory``, what is measured of it, and figures of several."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kept import Kept
from benchmarks.report import THREADS, Figure, console
from fedlab.metrics.verdict import LEAKS
from fedlab.results.rows import LeakageRow
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.federation import Federation

CLIENTS, IMAGES, TEST, ROUNDS = 10, 3_000, 2_000, 10
EPOCHS, BATCH, LR = 1, 32, 0.1

LEAKING = {"role": "leaking", "clients": "0-1", "batch_size": 4, "rounds": str(ROUNDS)}
"""Two clients send gradients of four images each in the last round, and train like all before."""

ATTACK = {
    "rounds": str(ROUNDS),
    "clients": "0-1",
    "preset": "fast",
    "labels": "known",
    "iterations": 150,
    # As suits trained networks; see ``benchmarks.families``.
    "tv": 0.1,
    "lr": 0.3,
    "power": False,
}

NORM, PSNR, ABOVE, SHARE = "squared norm", "PSNR", "PSNR above chance", "leaks"

Measured = dict[str, list[float]]
"""Values by the name of what was measured, one or several for a run."""


@dataclass(frozen=True)
class Bench:
    """Images, seeds and device of a part of the benchmark, and the runs that are done.

    Attributes:
        source: File with the images.
        seeds: Seeds of the runs.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        kept: Finished runs by name.
    """

    source: Path
    seeds: range
    device: str
    kept: Kept[Measured]

    def each(self, arm: str, measure: Callable[[int], Measured]) -> list[Measured]:
        """Measure an arm with every seed, unless that is done.

        Args:
            arm: Name of the arm.
            measure: Function of a seed.
        """
        for seed in self.seeds:
            if (name := self._name(arm, seed)) not in self.kept.results:
                self.kept.add(name, measure(seed))
                console.print(name, soft_wrap=True)
        return [self.kept.results[self._name(arm, seed)] for seed in self.seeds]

    def _name(self, arm: str, seed: int) -> str:
        return f"{self.source.stem}, {arm}, seed {seed}"

    def figures(self, runs: Mapping[str, Sequence[Measured]]) -> list[Figure]:
        """Figures of the arms by name, each with the values of all its runs."""
        return [
            Figure(
                f"{self.source.stem}, {arm}: {name}",
                "dB" if PSNR in name else "",
                [value for run in own for value in run[name]],
                failure="nothing was reconstructed",
            )
            for arm, own in runs.items()
            for name in own[0]
        ]


def federation(bench: Bench, seed: int, **tables: Any) -> Federation:
    """A federation of honest clients, of which two leak in the last round.

    Args:
        bench: Images and device.
        seed: Root seed.
        **tables: Tables of the scenario to replace; ``training`` is added to.
    """
    usual = {"epochs": EPOCHS, "batch_size": BATCH, "lr": LR}
    training = usual | tables.pop("training", {})
    data = {"source": f"npz:{bench.source}", "train": IMAGES, "test": TEST, "clients": CLIENTS}
    given = {"roles": [LEAKING], "reconstructions": [ATTACK]} | tables
    engine = {"device": bench.device, "threads": THREADS, "workers": 1}
    scenario = Scenario(name="theory", rounds=ROUNDS, seed=seed)
    return Federation(scenario.changed(data=data, training=training, engine=engine, **given))


def squared_norm(run: Federation) -> float:
    """Squared L2 norm of all global parameters."""
    names = [name for name, _ in run.federated.model.named_parameters()]
    return sum(float(run.state[name].double().square().sum()) for name in names)


def outcome(run: Federation) -> Measured:
    """Run all rounds: accuracy, squared norm, and leakage of the attacked images at the end."""
    while run.round < run.scenario.rounds:
        last = run.step()
    accuracy = {"accuracy": [last.model.accuracy], NORM: [squared_norm(run)]}
    return accuracy | leakage(last.leakage)


def leakage(rows: Iterable[LeakageRow]) -> dict[str, list[float]]:
    """PSNR of the attacked images, that above chance, and the share of images that leak."""
    seen = [row for row in rows if row.target == "original"]
    return {
        PSNR: [row.graded_psnr for row in seen],
        ABOVE: [row.graded_psnr - row.chance_psnr for row in seen],
        SHARE: [float(row.verdict == LEAKS) for row in seen],
    }
