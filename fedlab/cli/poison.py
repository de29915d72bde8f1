"""The command ``fedlab poison``."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.cli.options import Overrides
from fedlab.core.consoles import console
from fedlab.core.errors import BadInput


def poison(
    scenario: Annotated[
        str,
        typer.Argument(
            help="Name of a scenario from `fedlab list`, path of a TOML file, or folder of a run."
        ),
    ],
    overrides: Overrides = None,
    client: Annotated[
        int | None,
        typer.Option(help="Client, counted from 0. Default: the first client that poisons images."),
    ] = None,
    round: Annotated[
        int | None,
        typer.Option(help="Round, counted from 1. Default: the first in which the client poisons."),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, max=16, help="Largest number of images in the picture.")
    ] = 8,
    out: Annotated[
        Path,
        typer.Option(help="PNG, PDF or SVG file to write. Its folder is made if need be."),
    ] = Path("poison.png"),
) -> None:
    """Show how a poisoning client changes its images: clean, poisoned, and the difference.

    Poisons that are crafted against the global weights use those of the run if one is named, and
    untrained weights otherwise.
    """
    from fedlab.core.files import check_folder
    from fedlab.report.figures.sheet import format_of, save
    from fedlab.results.checkpoint import Checkpoint
    from fedlab.results.folder import RunFolder
    from fedlab.scenario.scenario import Scenario
    from fedlab.simulation.poison_preview import preview

    check_folder(out.parent)
    if out.is_dir():
        raise BadInput(f"{out} is a folder: name a picture to write")
    format_of(out)
    state = None
    if Path(scenario).is_dir():
        run_folder = RunFolder.open(Path(scenario))
        state = Checkpoint.load(run_folder.checkpoint).state
        scenario = str(run_folder.path / "scenario.toml")
    chosen = Scenario.load(scenario, overrides or [])
    found = preview(chosen, client=client, round=round, state=state)
    console.print(str(found), soft_wrap=True)
    figure = found.plot(images)
    out.parent.mkdir(parents=True, exist_ok=True)
    save(figure, out)
    console.print(f"picture: {out}", soft_wrap=True)
