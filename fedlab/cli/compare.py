"""The command ``fedlab compare``."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.cli import completion
from fedlab.cli.options import Device, Overrides, ScenarioName
from fedlab.core.consoles import console
from fedlab.core.errors import BadInput, RunFailed


def compare(
    scenario: ScenarioName,
    defenses: Annotated[
        str,
        typer.Option(
            help="Defenses to compare, separated by commas; none for no defense, plus signs for "
            "several at once, settings after colons: none,dp-sgd:noise_multiplier=2,mixup+pruning.",
            autocompletion=completion.complete_defenses,
        ),
    ],
    attacks: Annotated[
        str | None,
        typer.Option(
            help="Reconstruction presets, separated by commas, with settings after colons: "
            "inverting-gradients:iterations=300,fast. Default: the scenario's own.",
            autocompletion=completion.complete_presets,
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(
            help="Number of seeds, counted from the scenario's own, or the seeds themselves with "
            "commas: 0,5,9, or 7, for a single one."
        ),
    ] = "5",
    rules: Annotated[
        str | None,
        typer.Option(
            help="Aggregation rules, separated by commas, with settings after colons: "
            "FedAvg,FedTrimmedAvg:beta=0.2. Default: the scenario's own.",
            autocompletion=completion.complete_rules,
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting with several values, such as training.lr=0.01,0.1 or, for a compared "
            "defense, defenses.dp-sgd.noise_multiplier=0.5,1,2; repeatable, all combinations run."
        ),
    ] = None,
    overrides: Overrides = None,
    device: Device = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of runs at the same time. Default: 1 on a GPU, otherwise as many "
            "as cores and memory allow.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the comparison: a new one, or one to continue. Default: "
            "runs/compare-NAME."
        ),
    ] = None,
) -> None:
    """Run a scenario under each defense with several seeds: table, frontier and HTML page.

    Each defense runs in all rounds and on all clients. Started again, the command does only what is
    not finished. A defense, rule or scenario that names code by package.module:Name runs that code.
    """
    from fedlab.comparison import compare as compared
    from fedlab.comparison.comparison import SUMMARY, TABLE, Comparison
    from fedlab.comparison.sweep import read_sweep
    from fedlab.report.figures.reconstructions import save
    from fedlab.scenario.scenario import Scenario

    def draw(comparison: Comparison) -> None:
        """Draw the results so far, and write their page."""
        if comparison.leakage["psnr"].notna().any():
            picture = comparison.folder / "frontier.png"
            save(comparison.plot(), picture)
            console.print(f"picture: {picture}", soft_wrap=True)
        if comparison.sweep:
            picture = comparison.folder / "sweep.png"
            save(comparison.swept(), picture)
            console.print(f"picture of the swept settings: {picture}", soft_wrap=True)
        console.print(f"page: {comparison.report()}", soft_wrap=True)

    def announce(comparison: Comparison) -> None:
        console.print(f"seeds so far: {', '.join(map(str, comparison.seeds))}")
        draw(comparison)

    settings = [*(overrides or [])]
    settings += [f"engine.device={device}"] if device else []
    comparison = compared(
        Scenario.load(scenario, settings),
        _parts(defenses),
        attacks=None if attacks is None else _parts(attacks),
        seeds=_seeds(seeds),
        rules=None if rules is None else _parts(rules),
        grid=read_sweep(grid or []),
        out=out,
        processes=processes,
        on_seed=announce,
    )
    console.print(comparison.table())
    for what, name in (("a row for each client and round", TABLE), ("the summary", SUMMARY)):
        console.print(f"{what}: {comparison.folder / name}", soft_wrap=True)
    draw(comparison)
    if others := comparison.others:
        console.print(
            f"left out of these: {others} run{'s' * (others > 1)} of other defenses, seeds, "
            "settings or versions, which this folder keeps"
        )
    if comparison.failures:
        reasons = "; ".join(f"{name}: {why}" for name, why in comparison.failures.items())
        raise RunFailed(f"these runs have no result: {reasons}")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seeds(text: str) -> int | list[int]:
    parts = _parts(text)
    if not parts or not all(part.isdecimal() for part in parts):
        raise BadInput(f'seeds "{text}" must be a number of seeds, or seeds with commas: 0,5,9')
    return int(parts[0]) if len(parts) == 1 and "," not in text else [int(part) for part in parts]
