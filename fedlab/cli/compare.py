"""The command ``fedlab compare``: defenses beside each other, on one scenario."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.core.consoles import console
from fedlab.core.errors import BadInput, RunFailed


def compare(
    scenario: Annotated[str, typer.Argument(help="A name from `fedlab list`, or a TOML file.")],
    defenses: Annotated[
        str,
        typer.Option(
            help="With commas: none, dp-sgd, dp-sgd:noise_multiplier=2, mixup+pruning, ..."
        ),
    ],
    attacks: Annotated[
        str | None,
        typer.Option(help="Presets, instead of the scenario's own: inverting-gradients,fast, ..."),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(help="How many, from the scenario's own on; or which: 0,5,9, or 7, for one."),
    ] = "3",
    rules: Annotated[
        str | None,
        typer.Option(help="Instead of the scenario's own: FedAvg,FedTrimmedAvg:beta=0.2, ..."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a setting: training.lr=0.05, ...")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time; one on a GPU.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the comparison: new, or one to go on with."),
    ] = None,
) -> None:
    """Run a scenario under each defense, with several seeds: table, frontier and a page to send.

    Each defense stands on all rounds and clients. Started again it does only what is not finished.
    """
    from fedlab.comparison import compare as compared
    from fedlab.comparison.comparison import SUMMARY, TABLE
    from fedlab.report.figures.reconstructions import save
    from fedlab.scenario.scenario import Scenario

    settings = [*(overrides or [])]
    settings += [f"engine.device={device}"] if device else []
    comparison = compared(
        Scenario.load(scenario, settings),
        _parts(defenses),
        attacks=None if attacks is None else _parts(attacks),
        seeds=_seeds(seeds),
        rules=None if rules is None else _parts(rules),
        out=out,
        processes=processes,
    )
    console.print(comparison.table())
    picture = comparison.folder / "frontier.png"
    if comparison.leakage["psnr"].notna().any():
        save(comparison.plot(), picture)
        console.print(f"picture: {picture}", soft_wrap=True)
    for what, name in (("a row for each client and round", TABLE), ("the summary", SUMMARY)):
        console.print(f"{what}: {comparison.folder / name}", soft_wrap=True)
    console.print(f"page: {comparison.report()}", soft_wrap=True)
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
