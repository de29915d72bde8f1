"""Run all unfinished runs of a comparison, several at a time where that helps."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import loky

from fedlab.comparison.cache_keys import keys_of
from fedlab.comparison.shared_images import SharedImages
from fedlab.comparison.time_left import TimeLeft
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.memory import room_for_processes
from fedlab.core.processes import cores, pool
from fedlab.core.progress import Tell, progress, silence
from fedlab.data.image_file import read_images
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder
from fedlab.results.round_result import RoundResult
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.auditing import verdict_of
from fedlab.simulation.federation import Federation
from fedlab.simulation.foreign_plugins import defined_in_main

log = logging.getLogger(__name__)

POLL_INTERVAL = 1.0
"""Seconds between two looks at the progress of other processes."""

Places = Mapping[str, tuple[Path, Scenario]]
"""The folder and the scenario of each run, by its name."""

OnOver = Callable[[Mapping[str, str]], None]
"""Function that is called whenever a run is over, with the reasons of ``finish`` by the names of
all runs that are over; a run with a result has an empty one."""

Count = Callable[[], int]
OnRound = Callable[[RoundResult], None]


def places_of(scenarios: Mapping[str, Scenario], folder: Path, images: SharedImages) -> Places:
    """The folder of each run: its name with the hash of what its result depends on.

    Args:
        scenarios: Scenarios by the names of the runs.
        folder: Folder with all runs.
        images: Their images.

    Raises:
        BadInput: If images, a plug-in or the device are not available.
    """
    keys = keys_of(scenarios.values(), images)
    return {
        name: (folder / f"{name}-{key}", scenario)
        for (name, scenario), key in zip(scenarios.items(), keys, strict=True)
    }


def finished(
    scenarios: Mapping[str, Scenario], folder: Path, *, processes: int
) -> dict[str, RunFolder]:
    """Run all runs that are not finished, and open the folders of all of them.

    Args:
        scenarios: Scenarios by names that can be names of folders.
        folder: Folder with all runs.
        processes: Number of runs at the same time.

    Raises:
        RunFailed: If one of them cannot go on; the others are finished first.
    """
    images = SharedImages()
    places = places_of(scenarios, folder, images)
    if failures := finish(places, images, processes=processes):
        raise RunFailed("; ".join(f"{name}: {reason}" for name, reason in failures.items()))
    return {name: RunFolder.open(place) for name, (place, _) in places.items()}


def finish(
    places: Places, images: SharedImages, *, processes: int, on_over: OnOver | None = None
) -> dict[str, str]:
    """Run all runs that are not finished, in the order in which they are given.

    Args:
        places: Folder and scenario of each run, by name.
        images: Their images.
        processes: Number of runs at the same time; 1 runs them in this process.
        on_over: Called whenever a run is over, in this process.

    Returns:
        Reasons of the runs that have no result, by name.

    Raises:
        BadInput: If other processes are asked for, but cannot import a plug-in.
        RunFailed: If a process was killed.
    """
    left = [name for name, place in places.items() if not is_over(*place)]
    contradicted = {name: _contradiction(*places[name]) for name in places if name not in left}
    total = sum(scenario.rounds for _, scenario in places.values())

    def done() -> int:
        return sum(_rounds(place) for place, _ in places.values())

    outcomes, begun = dict(contradicted), {n for n in left if RunFolder(places[n][0]).holds_a_run}
    # Runs that differ in their seed alone take about as long as each other.
    kinds = {name: places[name][1].changed(seed=0).to_toml() for name in left}
    time_left = TimeLeft(kinds, processes)

    def over(name: str, reason: str) -> None:
        outcomes[name] = reason
        time_left.over(name, whole=not reason and name not in begun)
        if on_over:
            on_over(outcomes)

    if left:
        if processes > 1:
            _refuse_what_others_cannot_import(scenario for _, scenario in places.values())
        for name in left:  # the log of a run is written beside its folder, before there is one
            places[name][0].parent.mkdir(parents=True, exist_ok=True)
        with progress(
            f"{len(left)} runs", total, unit="rounds", done=done(), left=time_left.seconds
        ) as tell:
            if processes == 1:
                for name in left:
                    over(name, _run_here(name, places, images, done, tell))
            else:
                for name, reason in _run_beside(left, places, images, processes, done, tell):
                    over(name, reason)
    return {name: reason for name, reason in outcomes.items() if reason}


def processes_for(scenario: Scenario) -> int:
    """Number of runs at the same time that pays: one on a GPU, else as cores and memory allow.

    Plug-ins that a notebook or a script defines itself exist in its own process only.
    """
    on_gpu = device_of(scenario.engine.device).type == "cuda"
    if on_gpu or defined_in_main(scenario):
        return 1
    workers = scenario.engine.workers
    each = scenario.engine.threads * (1 if workers == "auto" else workers)
    return max(1, min(cores() // each, room_for_processes()))


def is_over(place: Path, scenario: Scenario) -> bool:
    """True if a run has finished its last round."""
    checkpoint = RunFolder(place).checkpoint
    return checkpoint.is_file() and Checkpoint.round_of(checkpoint) == scenario.rounds


def _contradiction(place: Path, scenario: Scenario) -> str:
    """The sentence about an audit that contradicts the ledger of a finished run, or nothing."""
    if scenario.audit is None or (verdict := verdict_of(RunFolder(place))).holds:
        return ""
    return f"the audit contradicts the ledger: {verdict}"


def _run_here(name: str, places: Places, images: SharedImages, done: Count, tell: Tell) -> str:
    place, scenario = places[name]

    def after_round(_: RoundResult) -> None:
        tell(done(), name)

    tell(done(), name)
    return _finish(place, scenario, images.file(scenario.data), after_round)


def _run_beside(
    left: Sequence[str],
    places: Places,
    images: SharedImages,
    processes: int,
    done: Count,
    tell: Tell,
) -> Iterator[tuple[str, str]]:
    """Yield the name and the outcome of each run when it is over."""
    jobs: dict[Future[str], str] = {}
    with _pool(min(processes, len(left))) as pool:
        for name in left:
            place, scenario = places[name]
            file = images.file(scenario.data)
            jobs[pool.submit(_finish_text, place, scenario.to_toml(), file)] = name
        waiting = set(jobs)
        while waiting:
            over, waiting = wait(waiting, timeout=POLL_INTERVAL, return_when=FIRST_COMPLETED)
            for job in over:
                yield jobs[job], job.result()  # which raises what no run is expected to
            tell(done(), f"{len(left) - len(waiting)} of {len(left)} runs")


@contextmanager
def _pool(processes: int) -> Iterator[loky.ProcessPoolExecutor]:
    """Worker processes that end with the block, and share the cores."""
    workers = pool(processes, share=max(1, min(cores(), room_for_processes()) // processes))
    try:
        yield workers
    except BrokenProcessPool as error:
        raise RunFailed(
            "a process of the comparison was killed, perhaps for want of memory: start it again, "
            "with fewer processes at a time; what is finished is kept"
        ) from error
    finally:
        workers.shutdown(wait=True, kill_workers=True)


def _finish_text(place: Path, text: str, file: Path) -> str:
    with silence():  # the parent process shows the progress of all runs
        return _finish(place, Scenario.parse(text), file)


def _finish(place: Path, scenario: Scenario, file: Path, on_round: OnRound | None = None) -> str:
    """Run or resume a run to its end; return the reason why it cannot go on, or nothing."""
    with _log_beside(place):
        try:
            images = read_images(file)
            if RunFolder(place).holds_a_run:
                Federation.resume(place, images=images, on_round=on_round).run()
            else:
                Federation(scenario, out=place, images=images, on_round=on_round).run()
        except (BadInput, RunFailed) as error:
            return str(error)
        except Exception as error:  # it must not stop the other runs
            log.exception("the run ended")
            return f"{type(error).__name__}: {error}"
    return ""


def _rounds(place: Path) -> int:
    """Number of rounds that are over; the first row is that of the untrained network."""
    return max(0, len(RunFolder(place).rounds()) - 1)


@contextmanager
def _log_beside(place: Path) -> Iterator[None]:
    """Send log messages to a file beside the run's folder, where they do not disturb the bar."""
    everything = logging.getLogger("fedlab")
    # The file is created with the first message.
    file = logging.FileHandler(place.with_name(f"{place.name}.log"), delay=True, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(message)s"))
    before = everything.propagate
    everything.addHandler(file)
    everything.propagate = False
    try:
        yield
    finally:
        everything.removeHandler(file)
        everything.propagate = before
        file.close()


def _refuse_what_others_cannot_import(scenarios: Iterable[Scenario]) -> None:
    for scenario in scenarios:
        if own := defined_in_main(scenario):
            raise BadInput(
                f"{own} is defined in the notebook or script that runs, where other processes "
                "cannot import it: put it into a module, or set processes=1"
            )
