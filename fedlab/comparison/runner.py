"""Runs what is not finished yet, several at a time where that helps."""

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path

import loky
import psutil

from fedlab.comparison.cache_keys import keys_of
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.progress import Tell, progress, silence
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder
from fedlab.results.round_result import RoundResult
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.auditing import verdict_of
from fedlab.simulation.federation import Federation

log = logging.getLogger(__name__)

LOOKS = 1.0
"""Seconds between two looks at how far other processes are."""

Places = Mapping[str, tuple[Path, Scenario]]
"""The folder and the scenario of each run, by its name."""

Count = Callable[[], int]
OnRound = Callable[[RoundResult], None]


def places_of(scenarios: Mapping[str, Scenario], folder: Path) -> Places:
    """Where each run is kept: under its name and the hash of what its result depends on.

    Raises:
        BadInput: If its images, network or device cannot be had.
    """
    keys = keys_of(scenarios.values())
    return {
        name: (folder / f"{name}-{key}", scenario)
        for (name, scenario), key in zip(scenarios.items(), keys, strict=True)
    }


def finished(
    scenarios: Mapping[str, Scenario], folder: Path, *, processes: int
) -> dict[str, RunFolder]:
    """All runs, of which those are run that were not yet, or not to the end.

    Args:
        scenarios: By names that are good for a folder.
        folder: Where the runs are kept.
        processes: How many at a time.

    Raises:
        RunFailed: If one of them cannot go on; the others are finished first.
    """
    places = places_of(scenarios, folder)
    if failures := finish(places, processes=processes):
        raise RunFailed("; ".join(f"{name}: {reason}" for name, reason in failures.items()))
    return {name: RunFolder.open(place) for name, (place, _) in places.items()}


def finish(places: Places, *, processes: int) -> dict[str, str]:
    """Run what was not run yet, or not to the end.

    Args:
        places: The runs.
        processes: How many at a time; a single one is run in this process.

    Returns:
        Why runs have no result, by name; the others have one.

    Raises:
        RunFailed: If a process was killed.
    """
    left = [name for name, place in places.items() if not is_over(*place)]
    contradicted = {name: _contradiction(*places[name]) for name in places if name not in left}
    total = sum(scenario.rounds for _, scenario in places.values())

    def done() -> int:
        return sum(_rounds(place) for place, _ in places.values())

    outcomes: dict[str, str] = {}
    if left:
        for name in left:  # what a run logs is written beside its folder, before there is one
            places[name][0].parent.mkdir(parents=True, exist_ok=True)
        with progress(f"{len(left)} runs", total, unit="rounds", done=done()) as tell:
            if processes == 1:
                outcomes = {name: _run_here(name, places, done, tell) for name in left}
            else:
                outcomes = _run_beside(left, places, processes, done, tell)
    return {name: reason for name, reason in (contradicted | outcomes).items() if reason}


def processes_for(scenario: Scenario) -> int:
    """How many runs are worth doing at a time: one on a GPU, else as many as there are cores.

    Images or a network that a notebook or a script defines itself are known to its process alone.
    """
    own = (scenario.data.factory or "", scenario.model.factory or "")
    on_gpu = device_of(scenario.engine.device).type == "cuda"
    if on_gpu or any(factory.startswith("__main__:") for factory in own):
        return 1
    cores: int = loky.cpu_count()
    return max(1, cores // scenario.engine.threads)


def is_over(place: Path, scenario: Scenario) -> bool:
    """Whether a run has ended its last round."""
    checkpoint = RunFolder(place).checkpoint
    return checkpoint.is_file() and Checkpoint.round_of(checkpoint) == scenario.rounds


def _contradiction(place: Path, scenario: Scenario) -> str:
    """What the audit of a finished run says against its ledger, if it does."""
    if scenario.audit is None or (verdict := verdict_of(RunFolder(place))).holds:
        return ""
    return f"the audit contradicts the ledger: {verdict}"


def _run_here(name: str, places: Places, done: Count, tell: Tell) -> str:
    place, scenario = places[name]

    def after_round(_: RoundResult) -> None:
        tell(done(), name)

    tell(done(), name)
    return _finish(place, scenario, after_round)


def _run_beside(
    left: Sequence[str], places: Places, processes: int, done: Count, tell: Tell
) -> dict[str, str]:
    jobs: dict[Future[str], str] = {}
    with _pool(min(processes, len(left))) as pool:
        for name in left:
            place, scenario = places[name]
            jobs[pool.submit(_finish_text, place, scenario.to_toml())] = name
        waiting = set(jobs)
        while waiting:
            over, waiting = wait(waiting, timeout=LOOKS, return_when=FIRST_COMPLETED)
            for job in over:
                job.result()  # raises what no run is expected to
            tell(done(), f"{len(left) - len(waiting)} of {len(left)} runs")
    return {name: job.result() for job, name in jobs.items()}


@contextmanager
def _pool(processes: int) -> Iterator[loky.ProcessPoolExecutor]:
    """Processes that end with this one, and with the block.

    They need no ``if __name__ == "__main__"`` in the script that compares, as those of the standard
    library would.
    """
    pool = loky.ProcessPoolExecutor(processes, initializer=_end_with, initargs=(os.getpid(),))
    with warnings.catch_warnings():
        # One whose memory grew between two runs is replaced, which nobody need hear of.
        warnings.filterwarnings("ignore", message="A worker was restarted", category=UserWarning)
        try:
            yield pool
        except BrokenProcessPool as error:
            raise RunFailed(
                "a process of the comparison was killed, perhaps for want of memory: start it "
                "again, with fewer processes at a time; what is finished is kept"
            ) from error
        finally:
            pool.shutdown(wait=True, kill_workers=True)


def _finish_text(place: Path, text: str) -> str:
    with silence():  # the process that compares tells how far all of them are
        return _finish(place, Scenario.parse(text))


def _finish(place: Path, scenario: Scenario, on_round: OnRound | None = None) -> str:
    """Run to the end what may have begun; why it cannot go on, or nothing."""
    with _log_beside(place):
        try:
            if RunFolder(place).holds_a_run:
                Federation.resume(place, on_round=on_round).run()
            else:
                Federation(scenario, out=place, on_round=on_round).run()
        except (BadInput, RunFailed) as error:
            return str(error)
        except Exception as error:  # whatever it is, it must not cost the other runs
            log.exception("the run ended")
            return f"{type(error).__name__}: {error}"
    return ""


def _rounds(place: Path) -> int:
    """How many rounds of a run are over; the first row is of the untrained network."""
    return max(0, len(RunFolder(place).rounds()) - 1)


@contextmanager
def _log_beside(place: Path) -> Iterator[None]:
    """What a run logs goes to a file beside it, where it does not tear the progress apart."""
    everything = logging.getLogger("fedlab")
    # Only made once there is something to write.
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


def _end_with(parent: int) -> None:
    """Make this process end when another does: a killed comparison must leave nobody writing."""

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):  # gone already
            psutil.Process(parent).wait()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
