"""Attacks on a federation under aggregation rules and defenses: attack x rule x defense.

Three of fifteen clients are malicious, as many as Bulyan tolerates. The controls are no attack at
all, and a random update as large as the scaled ones. ``python -m benchmarks rules`` measures the
rules and attacks of the newer benches, the benchmark ``poisoning`` the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.options import Options
from benchmarks.report import THREADS, Claim, Figure, Report
from fedlab.comparison.runner import finished
from fedlab.core.errors import BadInput
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario

CLIENTS, MALICIOUS = 15, 3
IMAGES, ROUNDS = 3_000, 10
BACKDOOR = {"attack": "badnets", "target": 0, "share": 0.5, "size": 3}
LOUD = {"attack": "scaling", "factor": 5.0}

ATTACKS: dict[str, Mapping[str, Any]] = {
    "no attack": {},
    "random update x5": {"update": {"attack": "gaussian", "factor": 5.0}},
    "label flip": {"data": {"attack": "label-flip", "pairs": [(0, 6), (6, 0)]}},
    "BadNets": {"data": BACKDOOR},
    "BadNets x5": {"data": BACKDOOR, "update": LOUD},
    "BadNets x5 until round 5": {"data": BACKDOOR, "update": LOUD, "rounds": "1-5"},
    "Neurotoxin": {"data": BACKDOOR, "update": {"attack": "neurotoxin"}},
    "Neurotoxin x5 until round 5": {
        "data": BACKDOOR,
        "update": {"attack": "neurotoxin", "factor": 5.0},
        "rounds": "1-5",
    },
    "DBA x5": {
        "data": {"attack": "distributed", "target": 0, "share": 0.5},
        "update": LOUD,
    },
    "sign flip x5": {"update": {"attack": "sign-flip", "factor": 5.0}},
    "ALIE z=1.5": {"update": {"attack": "little-is-enough", "z": 1.5}},
    "IPM 0.5": {"update": {"attack": "inner-product", "epsilon": 0.5}},
    "IPM 5": {"update": {"attack": "inner-product", "epsilon": 5.0}},
    "min-max": {"update": {"attack": "min-max"}},
    "min-sum": {"update": {"attack": "min-sum"}},
}
"""Settings of the poisoning role, by name."""

FLOWER = {"num_malicious_nodes": MALICIOUS}
RULES: dict[str, Mapping[str, Any]] = {
    "FedAvg": {},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": MALICIOUS / CLIENTS},
    "Krum": FLOWER,
    "MultiKrum": FLOWER | {"num_nodes_to_select": CLIENTS - MALICIOUS},
    "Bulyan": FLOWER,
    "NormClipping": {},
    "GeometricMedian": {},
    "FLTrust": {},
    "FLAME": {},
    "DnC": FLOWER,
    "CenteredClipping": {},
    "Bucketing": {"rule": "GeometricMedian"},
    "FoolsGold": {},
}
"""Options of each strategy."""

NEWER = ("FLAME", "DnC", "CenteredClipping", "Bucketing", "FoolsGold")
"""Rules that the benchmark ``rules`` measures under all attacks."""
NEWER_ATTACKS = ("Neurotoxin", "Neurotoxin x5 until round 5")
"""Attacks that it measures under all rules."""
KEPT = Path("runs") / "benchmarks" / "rules"
"""Finished runs of the benchmark ``rules``; empty it to measure anew."""
SEEDS = 2
"""Seeds of each cell of the benchmark ``rules``."""

DEFENSES: dict[str, Sequence[Mapping[str, Any]]] = {
    "DP-InstaHide": [{"name": "dp-instahide", "k": 4, "scale": 16 / 255}],
    "DP-SGD": [{"name": "dp-sgd", "noise_multiplier": 1.0}],
}
DEFENDED = product(("no attack", "BadNets", "BadNets x5"), ("FedAvg", "NormClipping"), DEFENSES)


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        attack: Key of the attack in ``ATTACKS``.
        rule: Key of the aggregation rule in ``RULES``.
        defense: Key of the defense in ``DEFENSES``, or ``none``.
    """

    attack: str
    rule: str
    defense: str = "none"

    @property
    def name(self) -> str:
        """Name of the cell in the report."""
        defended = "" if self.defense == "none" else f", {self.defense}"
        return f"{self.attack}, {self.rule}{defended}"


_ALL = [Cell(attack, rule) for attack, rule in product(ATTACKS, RULES)]
ADDED = tuple(each for each in _ALL if each.rule in NEWER or each.attack in NEWER_ATTACKS)
"""Cells of the benchmark ``rules``."""
CELLS = (*(each for each in _ALL if each not in ADDED), *(Cell(*key) for key in DEFENDED))
"""Cells of the benchmark ``poisoning``."""


def run(options: Options) -> Report:
    """Measure the newer rules and attacks.

    Raises:
        BadInput: If there are no images.
        RunFailed: If a run cannot go on.
    """
    images = options.data and options.data / "fashion_mnist.npz"
    if images is None or not images.is_file():
        raise BadInput(
            "name a folder with fashion_mnist.npz with --data, made by `python "
            "../shared/data/make_npz.py fashion_mnist FOLDER/fashion_mnist.npz --train 4000 "
            "--test 2000`"
        )
    seeds = range(options.repeats or SEEDS)
    how = {"device": options.device, "processes": options.processes}
    table = Table.of(ADDED, images, KEPT, seeds, **how)
    return Report(
        title="What do the rules of newer benches stop?",
        settings={
            "federation": f"{IMAGES:,} images of Fashion-MNIST, {CLIENTS} clients, {MALICIOUS} of "
            f"them malicious, convnet of width 16, {ROUNDS} rounds, {len(seeds)} seeds"
        },
        figures=table.figures,
        # FoolsGold is against clients that are alike, which honest ones with alike images are.
        claims=[table.stopped(rule) for rule in NEWER if rule != "FoolsGold"],
    )


def scenario(cell: Cell, images: Path, seed: int, device: str) -> Scenario:
    """The scenario of one run of the table.

    Args:
        cell: Cell of the table.
        images: Path of the .npz file with the images.
        seed: Root seed of the run.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    role = {"role": "poisoning", "clients": f"last {100 * MALICIOUS // CLIENTS}%"}
    settings = ATTACKS[cell.attack]
    return Scenario(
        name=cell.name,
        rounds=ROUNDS,
        seed=seed,
        data={
            "source": f"npz:{images}",
            "train": IMAGES,
            "test": 2_000,
            "clients": CLIENTS,
        },
        model={"name": "convnet", "width": 16},
        training={"epochs": 1, "batch_size": 20, "lr": 0.1},
        server={"strategy": cell.rule, "options": dict(RULES[cell.rule])},
        roles=[role | settings] if settings else [],
        defenses=list(DEFENSES.get(cell.defense, ())),
        engine={"device": device, "threads": THREADS, "workers": 1},
    )


def rules(
    images: Path, folder: Path, seeds: Sequence[int], *, device: str, processes: int
) -> tuple[list[Figure], list[Claim]]:
    """Fill the table of the benchmark ``poisoning``; the arguments are those of ``Table.of``."""
    table = Table.of(CELLS, images, folder, seeds, device=device, processes=processes)
    undefended = table.success[Cell("BadNets x5", "FedAvg")]
    return table.figures, [
        Claim(
            f"a scaled backdoor of {MALICIOUS} of {CLIENTS} clients succeeds on "
            f"{100 * min(undefended):.0f} % of triggered images at least, undefended",
            min(undefended) > 0.9,
        )
    ]


@dataclass(frozen=True)
class Table:
    """The cells of a table, measured.

    Attributes:
        figures: All figures, in the order of the cells.
        success: Attack success after the last round of every seed, for attacks with a goal.
    """

    figures: list[Figure]
    success: Mapping[Cell, Sequence[float]]

    @classmethod
    def of(
        cls,
        cells: Sequence[Cell],
        images: Path,
        folder: Path,
        seeds: Sequence[int],
        *,
        device: str,
        processes: int,
    ) -> "Table":
        """Run all cells that have not run yet.

        Args:
            cells: Cells of the table.
            images: Path of the .npz file with the images.
            folder: Folder in which finished runs are kept.
            seeds: Seeds of each cell.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            processes: Number of runs at a time.
        """
        runs = finished(
            {
                f"rules-{_plain(cell.name)}-{seed}": scenario(cell, images, seed, device)
                for cell, seed in product(cells, seeds)
            },
            folder,
            processes=processes,
        )
        figures, success = [], {}
        for cell in cells:
            own = [runs[f"rules-{_plain(cell.name)}-{seed}"] for seed in seeds]
            last = [run.rounds()[-1] for run in own]
            figures.append(Figure(f"{cell.name}: accuracy", "", [row.accuracy for row in last]))
            found = [row.attack_success_rate for row in last if row.attack_success_rate is not None]
            if found:
                success[cell] = found
                figures.append(Figure(f"{cell.name}: success", "", found))
            if left := [rate for run in own if (rate := _left_out(run)) is not None]:
                figures += [
                    Figure(f"{cell.name}: malicious replies left out", "", [t for t, _ in left]),
                    Figure(f"{cell.name}: honest replies left out", "", [f for _, f in left]),
                ]
        return cls(figures, success)

    def stopped(self, rule: str) -> Claim:
        """The claim that a rule keeps the scaled backdoor from most triggered images."""
        most = max(self.success[Cell("BadNets x5", rule)])
        return Claim.at_most(f"success of the scaled backdoor under {rule}", most, 0.3)


def _left_out(run: RunFolder) -> tuple[float, float] | None:
    """Shares of malicious and honest replies that the rule left out; ``None`` if it takes all."""
    rows = run.table("clients")
    chosen = rows[rows["selected"].isin(["yes", "no"])]
    if not len(chosen):
        return None
    left = chosen["selected"] == "no"
    bad = chosen["role"] == "poisoning"
    return float(left[bad].mean()) if bad.any() else 0.0, float(left[~bad].mean())


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())
