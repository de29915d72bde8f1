"""Time of messages, reply checks, ledger and run folder beside a bare PyTorch loop, and others.

Twenty rounds of ten honest clients with 200 synthetic images each: in turns by hand, as a
Federation of one process and of two, and as a Federation that keeps every Capture; with images of
28x28 also as a Federation on Ray, by hand in two processes, as a plain Flower app in Flower's own
simulation, and in pfl-research's simulation where it is installed.
"""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Literal

from benchmarks.fresh import Fresh, fresh
from benchmarks.options import Options
from benchmarks.other_loops import by_flower, by_pfl, by_processes
from benchmarks.racers import Outcome, by_hand, in_process, in_workers, on_ray
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.client.federated_data import images_of, network_of
from fedlab.core.errors import BadInput, RunFailed
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Captures, Data, Engine, Model, Training

REPEATS = 5
MOST = {
    ("28x28", "federation"): 1.03,
    ("28x28", "with captures"): 1.10,
    ("8x8", "federation"): 1.10,
    ("8x8", "with captures"): 1.20,
    ("28x28", "two workers"): 0.65,
}
"""Time over that of the bare loop, by image size and kind of run; two workers on two cores."""

MOST_SHARED = 0.58
"""Time of the Federation of two processes over that of one, at 28x28."""

MOST_ON_RAY = 1.2
"""Time of a later round on Ray over that of one of two workers, on two cores."""

RAY = "Ray"
OTHERS = {
    RAY: on_ray,
    "two processes by hand": by_processes,
    "Flower's simulation": by_flower,
    "pfl-research": by_pfl,
}
"""What is measured beside a Federation in this process, by name."""

Runs = dict[str, list[Fresh[Outcome]]]


def scenario(images: str, width: int, keep: Literal["attacked", "all"] = "attacked") -> Scenario:
    """The scenario that is measured.

    Args:
        images: Name of a function in ``benchmarks.images``.
        width: Width of the convnet.
        keep: Which Captures are kept; ``attacked`` keeps none here.
    """
    return Scenario(
        name="benchmark",
        rounds=20,
        data=Data(source="factory", factory=f"benchmarks.images:{images}", clients=10),
        model=Model(name="convnet", width=width),
        training=Training(epochs=1, batch_size=32, lr=0.02),
        captures=Captures(keep=keep),
        engine=Engine(device="cpu", threads=THREADS, workers=1),
    )


def run(options: Options) -> Report:
    """Measure at two image sizes: the smaller the images, the more the overhead counts."""
    repeats = options.repeats or REPEATS
    large, small = scenario("like_mnist", 36), scenario("like_digits", 43)
    runs = {
        "28x28": _race("28x28", large, scenario("like_mnist", 36, "all"), repeats, OTHERS),
        "8x8": _race("8x8", small, scenario("like_digits", 43, "all"), repeats, {}),
    }
    return Report(
        title="What does a Federation cost beside a bare PyTorch loop?",
        settings={
            "clients": 10,
            "images of each client": 200,
            "batch": 32,
            "local epochs": 1,
            "rounds": 20,
            "images": "made up, 28x28 and 8x8, grey, 500 for the test",
            "parameters at 28x28": _parameters(large),
            "parameters at 8x8": _parameters(small),
        },
        figures=[figure for name, raced in runs.items() for figure in _figures(name, raced)],
        claims=_claims(runs),
    )


def _race(
    name: str,
    plain: Scenario,
    keeping: Scenario,
    repeats: int,
    others: Mapping[str, Callable[[Scenario], Outcome]],
) -> Runs:
    """Run all in turns, so that a busy machine slows them alike; what cannot run has no results."""
    racers: dict[str, tuple[Callable[[Scenario], Outcome], Scenario]] = {
        "bare loop": (by_hand, plain),
        "federation": (in_process, plain),
        "two workers": (in_workers, plain.changed(engine={**dict(plain.engine), "workers": 2})),
        "with captures": (in_process, keeping),
        **{other: (function, plain) for other, function in others.items()},
    }
    runs: Runs = {racer: [] for racer in racers}
    for repeat in range(1, repeats + 1):
        for racer, (function, given) in racers.items():
            try:
                runs[racer].append(fresh(function, given))
            except (BadInput, RunFailed, ImportError) as error:
                console.print(f"{name}, {racer}: {error}", highlight=False)
        took = ", ".join(
            f"{racer} {them[-1].result.seconds:.2f} s" for racer, them in runs.items() if them
        )
        console.print(f"{name}, repeat {repeat} of {repeats}: {took}", highlight=False)
    return runs


def _figures(name: str, runs: Runs) -> list[Figure]:
    figures = []
    for racer, them in runs.items():
        if len(them) < len(runs["bare loop"]):
            figures.append(Figure(f"{name}, {racer}", "", failure="it cannot run here"))
            continue
        figures += [
            Figure(f"{name}, {racer}: all rounds", "s", [one.result.seconds for one in them]),
            Figure(f"{name}, {racer}: a later round", "s", [one.result.later for one in them]),
            Figure(f"{name}, {racer}: whole process", "s", [one.seconds for one in them]),
            Figure(f"{name}, {racer}: peak memory", "MiB", [_peak(one) for one in them]),
        ]
        if racer != "bare loop":
            figures += [
                Figure(f"{name}, {racer} / bare loop", "", _ratios(runs, racer)),
                Figure(
                    f"{name}, {racer} / bare loop, a later round", "", _ratios_later(runs, racer)
                ),
                # What other processes take from the machine is least in the fastest runs.
                Figure(
                    f"{name}, {racer} / bare loop, fastest of each", "", [_fastest(runs, racer)]
                ),
            ]
        if any(size := [one.result.folder for one in them]):
            figures.append(Figure(f"{name}, {racer}: run folder", "MB", size))
    return figures


def _claims(runs: dict[str, Runs]) -> list[Claim]:
    large, own = runs["28x28"], {"bare loop", "federation", "two workers", "with captures", RAY}
    claims = [
        *(
            Claim(
                f"{name}: all runs of ours end in the weights of the bare loop bit for bit",
                len({o.result.weights for r, them in raced.items() if r in own for o in them}) == 1,
            )
            for name, raced in runs.items()
        ),
        *(
            Claim.at_most(f"{name}: {racer} / bare loop", median(_ratios(runs[name], racer)), most)
            for (name, racer), most in MOST.items()
        ),
        Claim.at_most(
            "28x28: two workers / federation",
            median(_ratios(large, "two workers", "federation")),
            MOST_SHARED,
        ),
        Claim("28x28: every run on Ray ends in its last round", _complete(large, RAY)),
    ]
    if _complete(large, RAY):
        found = median(_ratios_later(large, RAY, "two workers"))
        claims.append(Claim.at_most("28x28: a later round, Ray / two workers", found, MOST_ON_RAY))
    return claims


def _complete(runs: Runs, racer: str) -> bool:
    return len(runs[racer]) == len(runs["bare loop"])


def _peak(run: Fresh[Outcome]) -> float:
    """Peak memory of all processes of a run in MiB."""
    return run.result.family_peak or run.peak


def _ratios(runs: Runs, racer: str, other: str = "bare loop") -> list[float]:
    """Time of each repeat over that of another racer in the same repeat."""
    return [
        one.result.seconds / bare.result.seconds
        for one, bare in zip(runs[racer], runs[other], strict=True)
    ]


def _ratios_later(runs: Runs, racer: str, other: str = "bare loop") -> list[float]:
    """The same for the median of all rounds but the first two, in which processes start."""
    return [
        one.result.later / bare.result.later
        for one, bare in zip(runs[racer], runs[other], strict=True)
    ]


def _fastest(runs: Runs, racer: str) -> float:
    quickest = {name: min(one.result.seconds for one in them) for name, them in runs.items()}
    return quickest[racer] / quickest["bare loop"]


def _parameters(given: Scenario) -> int:
    return sum(p.numel() for p in network_of(given, images_of(given)).parameters())
