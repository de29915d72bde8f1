"""Compare privacy defenses: the same federation under each of them, with several seeds."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from fedlab.comparison.comparison import RUNS, ComparedRun, Comparison, is_comparison
from fedlab.comparison.parsing import Defense, arm_of, choice, distinct
from fedlab.comparison.run_grid import Cell, cells_of
from fedlab.comparison.runner import Places, finish, places_of, processes_for
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.files import check_folder
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario

__all__ = ["ComparedRun", "Comparison", "compare", "is_comparison"]


LOCK = ".lock"
"""The file in a comparison's folder that whoever runs it holds."""


def compare(
    scenario: Scenario | str | Path,
    defenses: Iterable[Defense],
    *,
    attacks: Iterable[str] | None = None,
    seeds: int | Iterable[int] = 3,
    rules: Iterable[str] | None = None,
    out: Path | str | None = None,
    processes: int | None = None,
) -> Comparison:
    """Run one scenario under each defense, with several seeds, and hold the results together.

    Every defense stands on all rounds and on all clients, in place of the scenario's own schedule;
    roles stay as they are, so a poisoning client that does not obey does not here either. Runs are
    kept under a hash of scenario, images, versions and device: a comparison that was interrupted
    goes on where it was, one that is repeated is there at once, and one with more defenses or seeds
    adds what is missing.

    Args:
        scenario: Or its name or file.
        defenses: Such as ``"none"``, ``"dp-sgd"``, ``"dp-sgd:noise_multiplier=2"``,
            ``"mixup+pruning"`` or ``{"name": "dp-instahide", "k": 4}``. Settings that are not given
            are those of the first such entry in the scenario.
        attacks: Presets that rebuild images, in place of the scenario's own.
        seeds: Which, or how many, from the scenario's own on.
        rules: Aggregation rules, such as ``"FedAvg"`` or ``"FedTrimmedAvg:beta=0.2"``, in place of
            the scenario's own.
        out: Folder of the comparison; ``runs/compare-NAME`` unless given. It may be there already.
        processes: Runs at the same time; unless given one on a GPU, and as many as there are cores
            on a CPU.

    Returns:
        The results; those of runs that could not go on are missing in them, and ``failures`` tells
        why.

    Raises:
        BadInput: If something cannot work, or another comparison is being run in the folder.
        RunFailed: If no run has a result, or one of the processes was killed.
    """
    chosen = scenario if isinstance(scenario, Scenario) else Scenario.load(scenario)
    folder = Path(out) if out is not None else Path("runs") / f"compare-{chosen.name}"
    if processes is not None and processes < 1:
        raise BadInput(f"at least one run has to go on at a time, not {processes}")
    lists = {"defenses": defenses, "attacks": attacks, "seeds": seeds, "rules": rules}
    if text := next((name for name, given in lists.items() if isinstance(given, str)), None):
        raise BadInput(f'{text} are a list, and not the text "{lists[text]}"')
    presets = None if attacks is None else distinct("attacks", attacks)
    cells = _cells(chosen, defenses, presets, seeds, rules)
    check_folder(folder)
    if RunFolder(folder).holds_a_run:
        raise BadInput(f"{folder} holds a run: name another folder for the comparison")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LOCK).exists():
        raise BadInput(f"{folder} is not empty, and holds no comparison: name another folder")
    places = places_of({cell.name: cell.scenario for cell in cells}, folder / RUNS)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            failures = finish(places, processes=processes or processes_for(chosen))
            return _held_together(chosen, folder, cells, places, failures, presets or ())
    except Timeout as error:
        raise BadInput(f"another comparison is being run in {folder}") from error


def _cells(
    scenario: Scenario,
    defenses: Iterable[Defense],
    presets: Sequence[str] | None,
    seeds: int | Iterable[int],
    rules: Iterable[str] | None,
) -> list[Cell]:
    arms = [arm_of(defense) for defense in defenses]
    distinct("defenses", (arm.label for arm in arms))
    chosen_rules = None if rules is None else [choice(rule) for rule in rules]
    if chosen_rules is not None:
        distinct("rules", map(str, chosen_rules))
    return cells_of(
        scenario, arms, attacks=presets, seeds=_seeds(scenario, seeds), rules=chosen_rules
    )


def _seeds(scenario: Scenario, seeds: int | Iterable[int]) -> Sequence[int]:
    if isinstance(seeds, int):
        if seeds < 1:
            raise BadInput(f"a comparison needs at least one seed, not {seeds}")
        return range(scenario.seed, scenario.seed + seeds)
    chosen = tuple(seeds)
    distinct("seeds", map(str, chosen))
    return chosen


def _held_together(
    scenario: Scenario,
    folder: Path,
    cells: list[Cell],
    places: Places,
    failures: dict[str, str],
    presets: tuple[str, ...],
) -> Comparison:
    done = [cell for cell in cells if cell.name not in failures]
    if not done:
        raise RunFailed("no run has a result: " + next(iter(failures.values())))
    runs = tuple(
        ComparedRun(cell.defense, cell.rule, cell.seed, RunFolder.open(places[cell.name][0]))
        for cell in done
    )
    comparison = Comparison(scenario, folder, runs, failures, presets)
    comparison.write()
    return comparison
