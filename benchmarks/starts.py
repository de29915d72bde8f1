"""What do initial biases of -20 and 20 do to training, and to what the first gradients tell?

At -20 all ReLUs are off, at 20 all are on and the network is linear (arXiv 1910.00359). In round 1
two clients send gradients, of one image and of four, and their labels are inferred.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from torch import nn

from benchmarks.report import Claim, Figure
from benchmarks.theory_runs import SHARE, Bench, Measured, federation, leakage
from fedlab.models.registry import Shape
from fedlab.results.rows import LeakageRow
from fedlab.simulation.federation import Federation

MLP = {"name": "mlp", "width": 200}
LINEAR = "a linear network"
STARTS: dict[str, tuple[Mapping[str, Any], float]] = {
    "-20": (MLP | {"bias_start": -20.0}, 0.1),
    "default": (MLP, 0.1),
    "20": (MLP | {"bias_start": 20.0}, 1e-3),
    LINEAR: ({"name": "benchmarks.starts:linear"}, 0.1),
}
"""Network and learning rate of each start. At biases of 20 no rate from 1e-4 to 1e-2 learns
anything in ten rounds, and from 3e-3 on half of the ReLUs die."""

BATCHES = {0: 1, 1: 4}
"""Number of images behind the gradient of each attacked client."""
LEAKING = [
    {"role": "leaking", "clients": str(client), "batch_size": size, "rounds": "1"}
    for client, size in BATCHES.items()
]
OPTIMISED, ANALYTIC = "optimised", "analytic"
ATTACKS = {
    OPTIMISED: {"preset": "fast", "iterations": 300},
    ANALYTIC: {"preset": "analytic"},
}
RECONSTRUCTIONS = [
    {"rounds": "1", "clients": "0-1", "labels": "inferred", "power": False} | attack
    for attack in ATTACKS.values()
]


def linear(*, shape: Shape, classes: int) -> nn.Module:
    """One linear layer, the best that a network without a working ReLU can become."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def starts(bench: Bench) -> tuple[list[Figure], list[Claim]]:
    """Train from every start, and attack the first gradients."""

    def measure(seed: int, network: Mapping[str, Any], lr: float) -> Measured:
        tables = {"roles": LEAKING, "reconstructions": RECONSTRUCTIONS}
        return _outcome(federation(bench, seed, model=network, training={"lr": lr}, **tables))

    runs = {
        start: bench.each(f"start {start}", partial(measure, network=network, lr=lr))
        for start, (network, lr) in STARTS.items()
    }
    return bench.figures({f"start {start}": own for start, own in runs.items()}), _claims(runs)


def _outcome(run: Federation) -> Measured:
    measured: Measured = {}
    if any(isinstance(each, nn.ReLU) for each in run.federated.model.modules()):
        before = run.activity()
        measured = {"active units": [before.active], "varying units": [before.varying]}
    first = run.step().leakage
    for client, size in BATCHES.items():
        for attack, settings in ATTACKS.items():
            own = [r for r in first if r.client == client and r.preset == settings["preset"]]
            where = f"batch {size}, {attack}"
            measured |= {f"{where}: {name}": each for name, each in _scores(own).items()}
            if attack == OPTIMISED:  # the other one does without labels
                measured[f"batch {size}: labels found"] = [own[0].label_accuracy]
    while run.round < run.scenario.rounds:
        last = run.step()
    return measured | {"accuracy": [last.model.accuracy]}


def _scores(rows: Sequence[LeakageRow]) -> Measured:
    """Scores of the images of which anything was rebuilt, and how many leak of all."""
    found = leakage(rows)
    return {
        name: values if name == SHARE else [each for each in values if not math.isnan(each)]
        for name, values in found.items()
    }


def _claims(runs: Mapping[str, Sequence[Measured]]) -> list[Claim]:
    def mean(start: str, name: str) -> float:
        return fmean(value for run in runs[start] for value in run[name])

    leaks = {
        (start, size): max(mean(start, f"batch {size}, {attack}: {SHARE}") for attack in ATTACKS)
        for start in runs
        for size in BATCHES.values()
    }
    labels = min(mean("-20", f"batch {size}: labels found") for size in BATCHES.values())
    behind = mean(LINEAR, "accuracy") - mean("20", "accuracy")
    return [
        Claim(
            f"biases of -20: {labels:.2f} of the labels found, all, and {leaks['-20', 1]:.2f} and "
            f"{leaks['-20', 4]:.2f} of the images of batches of 1 and 4 leak, none",
            labels == 1 and leaks["-20", 1] == leaks["-20", 4] == 0,
        ),
        Claim(
            f"biases of 20: {leaks['20', 1]:.2f} of single images leak and {leaks['20', 4]:.2f} of "
            "those in batches of 4, all and not all",
            leaks["20", 1] == 1 and leaks["20", 4] < 1,
        ),
        Claim(
            f"biases of 20 end {100 * behind:.1f} points below a linear network, at least 0",
            behind >= 0,
        ),
    ]
