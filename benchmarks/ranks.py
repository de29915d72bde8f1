"""Does a lower or a higher rank of the global model's convolutions help it, or hide images?

After every round the server sets small singular values to 0, lowers large ones, or leaves all as
they are (arXiv 1910.00359).
"""

from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any

from benchmarks.report import Figure
from benchmarks.theory_runs import Bench, Measured, federation, outcome
from fedlab.server.spectrum import later_kernels, singular_values
from fedlab.simulation.federation import Federation

NETWORK = {"name": "convnet", "width": 16}
"""Its second convolution is changed, a matrix of 16 x 16 at each frequency."""
GRID = 14
"""Side of the input of the second convolution."""
BOUND = 0.5
"""Bound of both changes. That of ``rankmax`` in the paper, 1.5, is above all values here."""
ARMS: dict[str, dict[str, Any]] = {
    "rankmin": {"rank": {"change": "min", "bound": BOUND, "grid": GRID}},
    "plain": {},
    "rankmax": {"rank": {"change": "max", "bound": BOUND, "grid": GRID}},
}
EPSILON, ITERATIONS, ATTACKED = 8 / 255, 10, 300
ENERGY = 0.9
"""Share of the squared singular values that the effective rank explains."""


def ranks(bench: Bench) -> list[Figure]:
    """Train with and without the change of rank."""

    def measure(seed: int, server: Mapping[str, Any]) -> Measured:
        return _outcome(federation(bench, seed, model=NETWORK, server=server))

    runs = {arm: bench.each(arm, partial(measure, server=server)) for arm, server in ARMS.items()}
    return bench.figures(runs)


def _outcome(run: Federation) -> Measured:
    measured = outcome(run)
    robust = run.robustness(epsilon=EPSILON, iterations=ITERATIONS, images=ATTACKED)
    return measured | {"accuracy under PGD": [robust.pgd], "effective rank": [effective_rank(run)]}


def effective_rank(run: Federation) -> float:
    """Share of the singular values at a frequency that explain most of it; mean of all."""
    shares = []
    for name in later_kernels(run.state, run.state):
        energy = singular_values(run.state[name], GRID).square()
        below = energy.cumsum(-1) < ENERGY * energy.sum(-1, keepdim=True)
        shares.append(float((below.sum(-1) + 1).double().mean() / energy.shape[-1]))
    return fmean(shares)
