"""Many runs side by side, each in a folder of its own, so that a stopped comparison goes on."""

import hashlib
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.progress import Progress

from benchmarks.report import console
from fedlab.environment import environment
from fedlab.federation import Federation
from fedlab.runs.checkpoint import Checkpoint
from fedlab.runs.folder import RunFolder
from fedlab.scenario import Scenario


def finished(
    scenarios: Mapping[str, Scenario], folder: Path, *, processes: int
) -> dict[str, RunFolder]:
    """Run what was not run yet, several at a time.

    A run is kept under a hash of its scenario and of the packages' versions, so another scenario or
    version is run anew, and one that was stopped goes on. Changes of the code itself it cannot see:
    whoever makes some empties the folder.

    Args:
        scenarios: By names that are good for a folder.
        folder: Where the runs are kept.
        processes: How many at a time.

    Raises:
        RunFailed: If one of them cannot go on.
    """
    places = {name: folder / f"{name}-{_key(each)}" for name, each in scenarios.items()}
    left = [name for name, place in places.items() if not _is_over(place, scenarios[name])]
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, mp_context=context) as pool,
        Progress(console=console, transient=True) as progress,
    ):
        task = progress.add_task("runs", total=len(places), completed=len(places) - len(left))
        jobs = [pool.submit(_finish, places[name], scenarios[name].to_toml()) for name in left]
        try:
            for job in as_completed(jobs):
                job.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {name: RunFolder.open(place) for name, place in places.items()}


def _key(scenario: Scenario) -> str:
    packages: Sequence[object] = sorted(environment()["packages"].items())
    return hashlib.sha256(f"{scenario.to_toml()} {packages}".encode()).hexdigest()[:12]


def _is_over(place: Path, scenario: Scenario) -> bool:
    checkpoint = RunFolder(place).checkpoint
    return checkpoint.is_file() and Checkpoint.load(checkpoint).round == scenario.rounds


def _finish(place: Path, text: str) -> None:
    if (place / "scenario.toml").is_file():
        Federation.resume(place).run()
    else:
        Federation(Scenario.parse(text), out=place).run()
