"""Whether the outline of X-rays leaks where their PSNR is at the level of chance."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.report import THREADS, Figure, console
from fedlab.defenses import Defense
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.pruning import Pruning
from fedlab.metrics.verdict import NOT_SHOWN
from fedlab.results.rows import LeakageRow
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data, Engine, Model, Reconstruct
from fedlab.simulation.federation import Federation

IMAGES, ITERATIONS = 40, 100

ARMS: Mapping[str, Defense] = {
    "DP-SGD z=0.03": DPSGD(noise_multiplier=0.03),
    "DP-SGD z=0.1": DPSGD(noise_multiplier=0.1),
    "pruning 99 %": Pruning(share=0.99),
}
"""Defense of all clients by the name of the arm."""


def scenario(file: Path, defense: Defense) -> Scenario:
    """A scenario of one round in which each client leaks one X-ray."""
    return Scenario(
        name="outlines of X-rays",
        data=Data(source=f"npz:{file}", clients=IMAGES),
        model=Model(name="convnet", width=16),
        roles=(Leaking(batch_size=1),),
        defenses=(defense,),
        reconstructions=(
            Reconstruct(preset="fast", labels="known", iterations=ITERATIONS, power=False),
        ),
        metrics=("outline",),
        engine=Engine(device="cpu", threads=THREADS, workers=1),
    )


def measure(arm: str, file: Path) -> list[Figure]:
    """The outline score of the images that PSNR calls hidden, beside chance.

    Args:
        arm: Key of ``ARMS``.
        file: The .npz file with X-rays.
    """
    result = Federation(scenario(file, ARMS[arm])).step()
    rows = [row for row in result.leakage if row.target == "original"]
    console.print(f"{arm}: {[row.verdict for row in rows].count(NOT_SHOWN)} hidden")
    return list(_figures(arm, rows))


def _figures(arm: str, rows: Sequence[LeakageRow]) -> Iterator[Figure]:
    yield Figure(f"{arm}: not shown", "", [float(row.verdict == NOT_SHOWN) for row in rows])
    hidden = [row for row in rows if row.verdict == NOT_SHOWN]
    if not hidden:
        yield Figure(f"{arm}, not shown: outline", "", failure="PSNR shows all images")
        return
    outline, chance = ([row.extra[key] for row in hidden] for key in ("outline", "chance_outline"))
    above = [one - other for one, other in zip(outline, chance, strict=True)]
    yield Figure(f"{arm}, not shown: PSNR above chance", "dB", [_above(row) for row in hidden])
    yield Figure(f"{arm}, not shown: outline", "", outline)
    yield Figure(f"{arm}, not shown: outline by chance", "", chance)
    yield Figure(f"{arm}, not shown: outline above chance", "", above)
    yield Figure(f"{arm}, not shown: share above chance", "", [fmean(one > 0 for one in above)])


def _above(row: LeakageRow) -> float:
    return row.graded_psnr - row.chance_psnr
