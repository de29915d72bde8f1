"""Does training towards a larger norm cost accuracy, and does it leak more?

No decay, weight decay, and norm bias towards twice the squared norm at which weight decay ends, for
a network with normalisation layers and one without (arXiv 1910.00359).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from benchmarks.report import Claim, Figure
from benchmarks.theory_runs import NORM, Bench, Measured, federation, outcome

DECAY = 0.03
"""Strong enough that the 100 local steps of a run reach the target."""
FACTOR = 2.0
NETWORKS: dict[str, dict[str, Any]] = {
    "convnet": {"name": "convnet", "width": 16},
    "convnet with GroupNorm": {"name": "convnet", "width": 16, "norm": "group"},
}
NONE, WEIGHT_DECAY, NORM_BIAS = ("no decay", "weight decay", "norm bias")
TIE = 0.005
"""Accuracy by which norm bias may be behind weight decay, as in the issue: half a point."""


def norm_biases(bench: Bench) -> tuple[list[Figure], list[Claim]]:
    """Train every network in the three ways."""
    figures: list[Figure] = []
    claims = []
    for name, network in NETWORKS.items():
        runs = _runs(bench, name, network)
        figures += bench.figures({f"{name}, {arm}": own for arm, own in runs.items()})
        claims.append(_claim(f"{bench.source.stem}, {name}", runs))
    return figures, claims


def _runs(bench: Bench, name: str, network: Mapping[str, Any]) -> dict[str, list[Measured]]:
    def measure(seed: int, decay: float = 0.0, targets: Sequence[float] = ()) -> Measured:
        training = {"weight_decay": decay}
        if targets:
            training["norm_target"] = targets[bench.seeds.index(seed)]
        return outcome(federation(bench, seed, model=network, training=training))

    none = bench.each(f"{name}, {NONE}", measure)
    decayed = bench.each(f"{name}, {WEIGHT_DECAY}", partial(measure, decay=DECAY))
    targets = [FACTOR * run[NORM][0] for run in decayed]
    biased = partial(measure, decay=DECAY, targets=targets)
    return {
        NONE: none,
        WEIGHT_DECAY: decayed,
        NORM_BIAS: bench.each(f"{name}, {NORM_BIAS}", biased),
    }


def _claim(label: str, runs: dict[str, list[Measured]]) -> Claim:
    mean = {
        (arm, what): fmean(run[what][0] for run in runs[arm])
        for arm in (WEIGHT_DECAY, NORM_BIAS)
        for what in ("accuracy", NORM)
    }
    ahead = mean[NORM_BIAS, "accuracy"] - mean[WEIGHT_DECAY, "accuracy"]
    ratio = mean[NORM_BIAS, NORM] / mean[WEIGHT_DECAY, NORM]
    return Claim(
        f"{label}: norm bias is {100 * ahead:+.2f} points from weight decay at {ratio:.2f} times "
        f"its squared norm, at least {-100 * TIE:g} at 1.5 times",
        ahead >= -TIE and ratio >= 1.5,
    )
