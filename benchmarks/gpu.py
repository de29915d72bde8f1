"""Time of a round on a GPU by the ways to compute local training, beside a bare PyTorch loop.

Ten of a hundred clients with CIFAR-10 train a ResNet-18 with GroupNorm for twenty rounds: by hand,
as a Federation one after another, by recorded steps (a CUDA graph), in lockstep, and under DP-SGD,
which is neither recorded nor stacked. Each runs in a new process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.fresh import Fresh, fresh
from benchmarks.options import Options, cifar
from benchmarks.racers import Outcome, by_hand, in_process
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Data, Engine, Model, Server, Training

REPEATS = 3

NEAR = 0.05
"""Largest difference of the final accuracy from that of clients one after another."""


@dataclass(frozen=True)
class Size:
    """The size of the federation.

    Attributes:
        rounds: Number of rounds; the first two do not count.
        clients: Number of clients.
        cohort: Number of clients in a round, which train in lockstep.
        width: Channels of the first layer of the ResNet-18.
        batch_size: Images in a batch.
    """

    rounds: int = 20
    clients: int = 100
    cohort: int = 10
    width: int = 64
    batch_size: int = 32


def scenario(source: str, device: str, size: Size, **engine: Any) -> Scenario:
    """The scenario that is measured.

    Args:
        source: Data set.
        device: Device of the clients.
        size: Size of the federation.
        **engine: Settings by which the ways to train differ.
    """
    return Scenario(
        name="benchmark",
        rounds=size.rounds,
        data=Data(source=source, clients=size.clients),
        model=Model(name="resnet18", width=size.width),
        training=Training(batch_size=size.batch_size, lr=0.05),
        server=Server(cohort=size.cohort),
        engine=Engine(device=device, threads=THREADS, workers=1, **engine),
    )


def run(options: Options, size: Size | None = None) -> Report:
    """Measure all ways in turns, so that a busy machine slows them alike.

    Args:
        options: Options of the command line.
        size: Size of the federation; by default that of the committed figures.

    Raises:
        BadInput: If there are no images.
    """
    source, size = f"npz:{cifar(options)}", size or Size()
    plain = scenario(source, options.device, size)
    racers: dict[str, tuple[Callable[[Scenario], Outcome], Scenario]] = {
        "bare loop": (by_hand, plain),
        "one after another": (in_process, plain),
        "recorded": (in_process, scenario(source, options.device, size, cuda_graph=True)),
        "in lockstep": (
            in_process,
            scenario(source, options.device, size, clients_at_once=size.cohort),
        ),
        "dp-sgd": (in_process, plain.changed(defenses=[{"name": "dp-sgd"}])),
    }
    runs: dict[str, list[Fresh[Outcome]]] = {name: [] for name in racers}
    for repeat in range(1, (options.repeats or REPEATS) + 1):
        for name, (racer, given) in racers.items():
            runs[name].append(fresh(racer, given))
        took = ", ".join(f"{name} {them[-1].result.later:.3f} s" for name, them in runs.items())
        console.print(f"repeat {repeat}, a later round: {took}", highlight=False)
    return Report(
        title="What does a round of ten clients with a ResNet-18 take?",
        settings={
            "clients": size.clients,
            "cohort": size.cohort,
            "rounds": size.rounds,
            "batch": size.batch_size,
            "local epochs": 1,
            "network": f"resnet18 of width {size.width}, GroupNorm",
            "device": options.device,
        },
        figures=[figure for name, them in runs.items() for figure in _figures(name, them, runs)],
        claims=_claims(runs),
    )


def _figures(
    name: str, them: list[Fresh[Outcome]], runs: dict[str, list[Fresh[Outcome]]]
) -> list[Figure]:
    seconds = [each.result.later for each in them]
    bare = [each.result.later for each in runs["bare loop"]]
    return [
        Figure(f"{name}: a later round", "s", seconds),
        Figure(f"{name} / bare loop", "", [s / b for s, b in zip(seconds, bare, strict=True)]),
        Figure(f"{name}: accuracy", "", [each.result.accuracy for each in them]),
    ]


def _claims(runs: dict[str, list[Fresh[Outcome]]]) -> list[Claim]:
    """What holds on every device, whatever the times are."""
    alone = runs["one after another"][0].result
    claims = [
        Claim(
            f"{name}: all repeats end in the same weights bit for bit",
            len({each.result.weights for each in them}) == 1,
        )
        for name, them in runs.items()
    ]
    for name in ("recorded", "in lockstep"):
        differences = [abs(each.result.accuracy - alone.accuracy) for each in runs[name]]
        claims.append(Claim.at_most(f"{name}: accuracy, one after another", max(differences), NEAR))
    return claims
