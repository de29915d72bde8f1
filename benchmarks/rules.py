"""Attacks on a federation under aggregation rules and defenses: attack x rule x defense.

Three of fifteen clients are malicious, as many as Bulyan tolerates. The controls are no attack at
all, and a random update as large as the scaled ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.report import THREADS, Claim, Figure
from fedlab.comparison.runner import finished
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
}
"""Options of each strategy."""

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


CELLS = (
    *(Cell(attack, rule) for attack, rule in product(ATTACKS, RULES)),
    *(Cell(*key) for key in DEFENDED),
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
    """Fill the table.

    Args:
        images: Path of the .npz file with the images.
        folder: Folder in which finished runs are kept.
        seeds: Seeds of each cell.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        processes: Number of runs at a time.
    """
    runs = finished(
        {
            f"rules-{_plain(cell.name)}-{seed}": scenario(cell, images, seed, device)
            for cell, seed in product(CELLS, seeds)
        },
        folder,
        processes=processes,
    )
    figures, accuracy, success = [], {}, {}
    for cell in CELLS:
        own = [runs[f"rules-{_plain(cell.name)}-{seed}"] for seed in seeds]
        last = [run.rounds()[-1] for run in own]
        accuracy[cell] = [row.accuracy for row in last]
        figures.append(Figure(f"{cell.name}: accuracy", "", accuracy[cell]))
        reached = [row.attack_success_rate for row in last if row.attack_success_rate is not None]
        if reached:
            success[cell] = reached
            figures.append(Figure(f"{cell.name}: success", "", reached))
        if found := [rate for run in own if (rate := _left_out(run)) is not None]:
            figures += [
                Figure(f"{cell.name}: malicious replies left out", "", [t for t, _ in found]),
                Figure(f"{cell.name}: honest replies left out", "", [f for _, f in found]),
            ]
    undefended = success[Cell("BadNets x5", "FedAvg")]
    return figures, [
        Claim(
            f"a scaled backdoor of {MALICIOUS} of {CLIENTS} clients succeeds on "
            f"{100 * min(undefended):.0f} % of triggered images at least, undefended",
            min(undefended) > 0.9,
        )
    ]


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
