"""How far does training move the tangent kernel of plain networks and of a residual one?

The kernel of very wide networks stands still (arXiv 1910.00359 measures how far real ones are from
that).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.report import Figure
from benchmarks.theory_runs import Bench, Measured, federation
from fedlab.simulation.federation import Federation

WIDTHS = {"convnet": (4, 16), "resnet8": (4,)}
"""Widths of each network."""
LOOKS = (1, 2, 4, 7, 10)
"""Rounds after which the kernel is computed, a geometric series as in the paper's code."""


def kernels(bench: Bench) -> list[Figure]:
    """Train every network, and compare its kernel with that of the start."""

    def measure(seed: int, model: Mapping[str, Any]) -> Measured:
        return _outcome(federation(bench, seed, model=model, roles=[], reconstructions=[]))

    models = {
        f"{name} of width {width}": {"name": name, "width": width}
        for name, widths in WIDTHS.items()
        for width in widths
    }
    runs = {
        arm: bench.each(f"kernel, {arm}", partial(measure, model=model))
        for arm, model in models.items()
    }
    return bench.figures(runs)


def _outcome(run: Federation) -> Measured:
    start = run.ntk()
    measured: Measured = {}
    while run.round < run.scenario.rounds:
        last = run.step()
        if run.round in LOOKS:
            correlation = run.ntk().correlation(start)
            measured[f"kernel's correlation after round {run.round}"] = [correlation]
    return measured | {"accuracy": [last.model.accuracy]}
