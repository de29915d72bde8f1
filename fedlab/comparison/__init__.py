"""Compare defenses: run the same federation under each of them, with several seeds."""

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from fedlab.comparison.comparison import RUNS, ComparedRun, Comparison, is_comparison
from fedlab.comparison.parsing import (
    Choice,
    ChosenAttack,
    ChosenDefense,
    ChosenRule,
    arm_of,
    attack_of,
    distinct,
    rule_of,
)
from fedlab.comparison.run_grid import Cell, cells_of
from fedlab.comparison.runner import Places, finish, places_of, processes_for
from fedlab.comparison.shared_images import SharedImages
from fedlab.comparison.summary import proves_nothing
from fedlab.comparison.sweep import Sweep
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.files import check_folder, folder_name
from fedlab.results.attacks import scored_images
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario

__all__ = ["ComparedRun", "Comparison", "compare", "is_comparison"]


log = logging.getLogger(__name__)

LOCK = ".lock"
"""File in a comparison's folder that is locked while the comparison runs."""


def compare(
    scenario: Scenario | str | Path,
    defenses: Iterable[ChosenDefense],
    *,
    attacks: Iterable[ChosenAttack] | None = None,
    seeds: int | Iterable[int] = 5,
    rules: Iterable[ChosenRule] | None = None,
    grid: Sweep | None = None,
    out: Path | str | None = None,
    processes: int | None = None,
    on_seed: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Run one scenario under each defense, with several seeds, and collect the results.

    Every defense runs in all rounds and on all clients, in place of the scenario's own schedule;
    roles stay as they are, so a poisoning client that does not obey defenses does not here either.
    Runs are kept under a hash of scenario, images, plug-ins, versions and device: a comparison that
    was interrupted continues, a repeated one is done at once, and one with more defenses or seeds
    runs what is missing. All defenses run with the first seed before any runs with the second, and
    the tables are written whenever a seed is complete.

    Args:
        scenario: The scenario, its name or its file.
        defenses: Defenses, such as ``"none"``, ``"dp-sgd"``, ``"dp-sgd:noise_multiplier=2"``,
            ``"mine.module:Mine:rate=0.2"``, ``"mixup+pruning"``, ``{"name": "dp-instahide",
            "k": 4}`` or ``Mine(rate=0.2)``. A text or table takes settings that it leaves open from
            the first entry of that defense in the scenario; an object has all of its own.
        attacks: Reconstruction attacks, such as ``"fast"``,
            ``"inverting-gradients:iterations=300"`` or ``{"preset": "fast", "tv": 0.01}``, in place
            of the presets of the scenario's own.
        seeds: Root seeds, or their number, counted from the scenario's own seed; 5 by default.
        rules: Aggregation rules, such as ``"FedAvg"``, ``"FedTrimmedAvg:beta=0.2"`` or
            ``"mine.module:Rule"``, or classes of rules, in place of the scenario's own.
        grid: Settings of the scenario that take several values, by path, such as
            ``{"training.lr": [0.01, 0.1], "roles.leaking.batch_size": [1, 4, 16]}``, in all
            combinations; the paths are those of ``--set``. ``defenses.NAME.SETTING`` is a setting
            of the compared defense of that name, and leaves the other defenses as they are.
        out: Folder of the comparison, new or of an earlier comparison; ``runs/compare-NAME`` by
            default.
        processes: Number of runs at the same time; by default one on a GPU, and the number of
            cores on a CPU, or fewer where memory is short.
        on_seed: Called with the results so far whenever all runs with another seed are over, except
            after the last one; for example to draw them.

    Returns:
        The results. Runs that failed are missing in them; ``failures`` has the reasons.

    Raises:
        BadInput: If something cannot work, or the folder is in use by another comparison.
        RunFailed: If no run has a result, or a process was killed.
    """
    chosen = scenario if isinstance(scenario, Scenario) else Scenario.load(scenario)
    folder = Path(out) if out is not None else Path("runs") / folder_name(f"compare-{chosen.name}")
    if processes is not None and processes < 1:
        raise BadInput(f"at least one run has to go on at a time, not {processes}")
    lists = {"defenses": defenses, "attacks": attacks, "seeds": seeds, "rules": rules}
    if text := next((name for name, given in lists.items() if isinstance(given, str)), None):
        raise BadInput(f'{text} are a list, and not the text "{lists[text]}"')
    chosen_attacks = None if attacks is None else [attack_of(each) for each in attacks]
    if chosen_attacks is not None:  # the tables tell attacks apart by their presets
        distinct("attacks", (each.name for each in chosen_attacks))
    presets = tuple(map(str, chosen_attacks or ()))
    cells = _cells(chosen, defenses, chosen_attacks, seeds, rules, grid)
    images = SharedImages()
    check_folder(folder)
    if RunFolder(folder).holds_a_run:
        raise BadInput(f"{folder} holds a run: name another folder for the comparison")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LOCK).exists():
        raise BadInput(f"{folder} is not empty, and holds no comparison: name another folder")
    order = {seed: place for place, seed in enumerate(dict.fromkeys(c.seed for c in cells))}
    by_seed = sorted(cells, key=lambda cell: order[cell.seed])
    places = places_of({c.name: c.scenario for c in by_seed}, folder / RUNS, images)

    def collected(some: list[Cell], failures: Mapping[str, str]) -> Comparison:
        return _collected(chosen, folder, some, places, failures, presets, grid or {})

    complete: list[int] = []

    def on_over(outcomes: Mapping[str, str]) -> None:
        over = [s for s in order if all(c.name in outcomes for c in cells if c.seed == s)]
        if complete == over or len(over) == len(order):
            return
        complete[:] = over
        some = [cell for cell in cells if cell.seed in over]
        if any(not outcomes[cell.name] for cell in some):
            found = collected(some, {c.name: why for c in some if (why := outcomes[c.name])})
            if on_seed:
                on_seed(found)

    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            at_once = min(processes_for(cell.scenario) for cell in cells)
            failures = finish(places, images, processes=processes or at_once, on_over=on_over)
            comparison = collected(cells, failures)
    except Timeout as error:
        raise BadInput(f"another comparison is being run in {folder}") from error
    except (BadInput, RunFailed):
        if fresh:
            _discard_without_files(folder)
        raise
    for _, rows in scored_images(comparison.leakage).groupby("threat"):
        if warning := proves_nothing(rows):
            log.warning(warning)
    return comparison


def _discard_without_files(folder: Path) -> None:
    """Delete the folder of a comparison that was refused before any of its runs began."""
    if all(path.is_dir() or path.name == LOCK for path in folder.rglob("*")):
        shutil.rmtree(folder)


def _cells(
    scenario: Scenario,
    defenses: Iterable[ChosenDefense],
    attacks: Sequence[Choice] | None,
    seeds: int | Iterable[int],
    rules: Iterable[ChosenRule] | None,
    grid: Sweep | None,
) -> list[Cell]:
    arms = [arm_of(defense) for defense in defenses]
    distinct("defenses", (arm.label for arm in arms))
    chosen_rules = None if rules is None else [rule_of(rule) for rule in rules]
    if chosen_rules is not None:
        distinct("rules", map(str, chosen_rules))
    return cells_of(
        scenario,
        arms,
        attacks=attacks,
        seeds=_seeds(scenario, seeds),
        rules=chosen_rules,
        sweep=grid,
    )


def _seeds(scenario: Scenario, seeds: int | Iterable[int]) -> Sequence[int]:
    if isinstance(seeds, int):
        if seeds < 1:
            raise BadInput(f"a comparison needs at least one seed, not {seeds}")
        return range(scenario.seed, scenario.seed + seeds)
    chosen = tuple(seeds)
    distinct("seeds", map(str, chosen))
    return chosen


def _collected(
    scenario: Scenario,
    folder: Path,
    cells: list[Cell],
    places: Places,
    failures: Mapping[str, str],
    presets: tuple[str, ...],
    sweep: Sweep,
) -> Comparison:
    """The results of runs that are over, as tables on disk as well."""
    done = [cell for cell in cells if cell.name not in failures]
    if not done:
        raise RunFailed("no run has a result: " + next(iter(failures.values())))
    runs = tuple(
        ComparedRun(
            cell.defense,
            cell.rule,
            cell.seed,
            RunFolder.open(places[cell.name][0]),
            cell.point.values,
        )
        for cell in done
    )
    comparison = Comparison(scenario, folder, runs, failures, presets, sweep)
    comparison.write()
    return comparison
