"""Time of messages, reply checks, ledger and run folder beside a bare PyTorch loop.

Twenty rounds of ten honest clients with 200 synthetic images each: in turns by hand, as a
Federation of one process and of two, and as a Federation that keeps every Capture; then once on
Ray.
"""

from collections.abc import Callable
from statistics import median
from typing import Literal

from benchmarks.fresh import Fresh, fresh
from benchmarks.options import Options
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
        "28x28": _race("28x28", large, scenario("like_mnist", 36, "all"), repeats),
        "8x8": _race("8x8", small, scenario("like_digits", 43, "all"), repeats),
    }
    ray, failure = _try_ray(large)
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
        figures=[
            *(figure for name, raced in runs.items() for figure in _figures(name, raced)),
            *_ray_figures(ray, failure),
        ],
        claims=_claims(runs, ray),
    )


def _race(name: str, plain: Scenario, keeping: Scenario, repeats: int) -> Runs:
    """Run all three in turns, so that a busy machine slows them alike."""
    racers: dict[str, tuple[Callable[[Scenario], Outcome], Scenario]] = {
        "bare loop": (by_hand, plain),
        "federation": (in_process, plain),
        "two workers": (in_workers, plain.changed(engine={**dict(plain.engine), "workers": 2})),
        "with captures": (in_process, keeping),
    }
    runs: Runs = {racer: [] for racer in racers}
    for repeat in range(1, repeats + 1):
        for racer, (function, given) in racers.items():
            runs[racer].append(fresh(function, given))
        took = ", ".join(f"{racer} {them[-1].result.seconds:.2f} s" for racer, them in runs.items())
        console.print(f"{name}, repeat {repeat} of {repeats}: {took}", highlight=False)
    return runs


def _try_ray(given: Scenario) -> tuple[Fresh[Outcome] | None, str]:
    console.print("once on Ray, which takes a minute or more", highlight=False)
    try:
        engine = {**dict(given.engine), "name": "ray", "workers": 2}
        return fresh(on_ray, given.changed(engine=engine)), ""
    except (BadInput, RunFailed) as error:
        return None, str(error)


def _figures(name: str, runs: Runs) -> list[Figure]:
    figures = []
    for racer, them in runs.items():
        figures += [
            Figure(f"{name}, {racer}: all rounds", "s", [one.result.seconds for one in them]),
            Figure(f"{name}, {racer}: whole process", "s", [one.seconds for one in them]),
            Figure(f"{name}, {racer}: peak memory", "MiB", [_peak(one) for one in them]),
        ]
        if racer != "bare loop":
            size = [one.result.folder for one in them]
            figures += [
                Figure(f"{name}, {racer}: run folder", "MB", size),
                Figure(f"{name}, {racer}: a later round", "s", [o.result.later for o in them]),
                Figure(f"{name}, {racer} / bare loop", "", _ratios(runs, racer)),
                # What other processes take from the machine is least in the fastest runs.
                Figure(
                    f"{name}, {racer} / bare loop, fastest of each", "", [_fastest(runs, racer)]
                ),
            ]
    return figures


def _ray_figures(ray: Fresh[Outcome] | None, failure: str) -> list[Figure]:
    if ray is None:
        return [Figure("28x28, Ray", "", failure=failure)]
    what = (
        ("all rounds", "s"),
        ("a later round", "s"),
        ("whole process", "s"),
        ("peak memory, all processes", "MiB"),
    )
    values = ray.result.seconds, ray.result.later, ray.seconds, ray.result.family_peak
    return [
        Figure(f"28x28, Ray: {name}", unit, [value])
        for (name, unit), value in zip(what, values, strict=True)
    ]


def _claims(runs: dict[str, Runs], ray: Fresh[Outcome] | None) -> list[Claim]:
    weights = {
        name: {one.result.weights for them in raced.values() for one in them}
        for name, raced in runs.items()
    }
    if ray:
        weights["28x28"].add(ray.result.weights)
    large = runs["28x28"]
    shared = median(_ratios(large, "two workers", "federation"))
    claims = [
        *(
            Claim(f"{name}: all runs end in the same weights bit for bit", len(found) == 1)
            for name, found in weights.items()
        ),
        *(
            Claim.at_most(f"{name}: {racer} / bare loop", median(_ratios(runs[name], racer)), most)
            for (name, racer), most in MOST.items()
        ),
        Claim.at_most("28x28: two workers / federation", shared, MOST_SHARED),
        Claim("28x28: the run on Ray ends in its last round", ray is not None),
    ]
    if ray:
        workers = median(one.result.later for one in large["two workers"])
        name = "28x28: a later round on Ray / of two workers"
        claims.append(Claim.at_most(name, ray.result.later / workers, MOST_ON_RAY))
    return claims


def _peak(run: Fresh[Outcome]) -> float:
    """Peak memory of all processes of a run in MiB."""
    return run.result.family_peak or run.peak


def _ratios(runs: Runs, racer: str, other: str = "bare loop") -> list[float]:
    """Time of each repeat over that of another racer in the same repeat."""
    return [
        one.result.seconds / bare.result.seconds
        for one, bare in zip(runs[racer], runs[other], strict=True)
    ]


def _fastest(runs: Runs, racer: str) -> float:
    quickest = {name: min(one.result.seconds for one in them) for name, them in runs.items()}
    return quickest[racer] / quickest["bare loop"]


def _parameters(given: Scenario) -> int:
    return sum(p.numel() for p in network_of(given, images_of(given)).parameters())
