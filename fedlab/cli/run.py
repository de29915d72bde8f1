"""The command ``fedlab run``."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.cli.options import Device, Overrides, ScenarioName
from fedlab.core.consoles import console


def run(
    scenario: ScenarioName,
    overrides: Overrides = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine: in-process or ray; for SuperNodes see `fedlab deploy`. Default: the "
            "scenario's engine.name."
        ),
    ] = None,
    device: Device = None,
    trackers: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker",
            metavar="NAME",
            help="Experiment tracker that follows the run, beside the scenario's own: a name from "
            "`fedlab list trackers` or package.module:Name. May be given several times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the run. Default: a free name in the folder runs."),
    ] = None,
) -> None:
    """Run a scenario and print its leakage, poisoning, accuracy and privacy cost.

    A scenario that names code by package.module:Name runs that code.
    """
    from fedlab.core.errors import BadInput
    from fedlab.core.files import check_folder
    from fedlab.core.signals import raise_on_signals
    from fedlab.report.tables.terminal import report
    from fedlab.results.folder import next_free
    from fedlab.scenario.scenario import Scenario

    settings = [*(overrides or [])]
    settings += [f"engine.name={engine}"] if engine else []
    settings += [f"engine.device={device}"] if device else []
    chosen = Scenario.load(scenario, settings)
    if trackers:
        chosen = chosen.changed(trackers=[*chosen.trackers, *trackers])
    folder = out or next_free(Path("runs"), chosen.name)
    check_folder(folder)
    from fedlab.simulation.budget import solved_noise
    from fedlab.simulation.federation import Federation

    with raise_on_signals():
        federation = Federation(chosen, out=folder, on_round=lambda done: console.print(str(done)))
        for solved in solved_noise(chosen, federation.scenario):
            console.print(f"solved for: {solved}")
        console.print(f"{chosen.name}: {chosen.rounds} rounds, writing to {folder}")
        try:
            federation.run()
        except BadInput:
            federation.folder.discard_unless_spent()
            raise
    report(folder, console)
