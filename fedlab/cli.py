"""The command line: run, resume, reconstruct, show, list, data, ledger."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import click
import typer
from rich.console import Console
from rich.table import Table

from fedlab.errors import BadInput, RunFailed

app = typer.Typer(
    help="A privacy testbed for federated learning on images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# A pipe or a log file has no width of its own; the tables fit into this one.
# Names may hold brackets, which are not meant as markup.
console = Console(width=None if sys.stdout.isatty() else 110, markup=False, emoji=False)
complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace a setting: training.lr=0.05, roles.0.batch_size=4, ..."),
]
ScenarioName = Annotated[str, typer.Argument(help="A name from `fedlab list`, or a TOML file.")]
RunPath = Annotated[Path, typer.Argument(help="The folder of a run.")]


@app.command()
def run(
    scenario: ScenarioName,
    overrides: Overrides = None,
    engine: Annotated[str | None, typer.Option(help="in-process or ray.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the run.")] = None,
) -> None:
    """Run a scenario and print what leaked, what was poisoned and what it cost."""
    from fedlab.files import check_folder
    from fedlab.report.terminal import report
    from fedlab.runs.folder import next_free
    from fedlab.scenario import Scenario

    settings = [*(overrides or [])]
    settings += [f"engine.name={engine}"] if engine else []
    settings += [f"engine.device={device}"] if device else []
    chosen = Scenario.load(scenario, settings)
    folder = out or next_free(Path("runs"), chosen.name)
    check_folder(folder)
    if chosen.engine.name == "ray":
        from fedlab.engine.ray import run_on_ray

        run_on_ray(chosen, folder, on_line=console.print)
    else:
        from fedlab.federation import Federation

        federation = Federation(chosen, out=folder, on_round=lambda done: console.print(str(done)))
        console.print(f"{chosen.name}: {chosen.rounds} rounds, writing to {folder}")
        federation.run()
    report(folder, console)


@app.command()
def resume(folder: RunPath) -> None:
    """Go on with a run after its last finished round, on the engine that it was started on."""
    from fedlab.report.terminal import report
    from fedlab.runs.folder import RunFolder

    scenario = RunFolder.open(folder).scenario
    if scenario.engine.name == "ray":
        from fedlab.engine.ray import run_on_ray

        run_on_ray(scenario, folder, on_line=console.print, resume=True)
    else:
        from fedlab.federation import Federation

        federation = Federation.resume(folder, on_round=lambda done: console.print(str(done)))
        console.print(f"going on after round {federation.round} of {scenario.rounds}")
        federation.run()
    report(folder, console)


@app.command()
def reconstruct(
    folder: RunPath,
    round: Annotated[int, typer.Option(help="Round, counted from 1.")],
    client: Annotated[int, typer.Option(help="Partition id, counted from 0.")],
    preset: Annotated[str, typer.Option(help="Name of the attack.")] = "inverting-gradients",
    labels: Annotated[Literal["known", "inferred"], typer.Option()] = "known",
    iterations: Annotated[int | None, typer.Option(min=1)] = None,
    tv: Annotated[float | None, typer.Option(min=0, help="Weight of total variation.")] = None,
    restarts: Annotated[int | None, typer.Option(min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="PNG to write.")] = None,
) -> None:
    """Attack a reply that a run kept."""
    from fedlab.federation import Federation
    from fedlab.files import check_folder
    from fedlab.report.figures import save
    from fedlab.report.terminal import leak_table

    target = out or folder / "reconstructions" / f"round-{round:04d}-client-{client:05d}.png"
    # An attack takes minutes, so whether its picture can be written is asked before.
    check_folder(target.parent)
    if target.is_dir():
        raise BadInput(f"{target} is a folder: name a PNG to write with --out")
    federation = Federation.resume(folder)
    leak = federation.reconstruct(
        round=round,
        client=client,
        preset=preset,
        labels=labels,
        iterations=iterations,
        tv=tv,
        restarts=restarts,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    save(leak.show(), target)
    console.print(leak_table(leak))
    console.print(f"picture: {target}")


@app.command()
def show(scenario: ScenarioName, overrides: Overrides = None) -> None:
    """Print the schedule: rounds across, clients down, roles and defenses in the cells."""
    from fedlab.report.grid import schedule_grid
    from fedlab.scenario import Scenario

    console.print(schedule_grid(Scenario.load(scenario, overrides or [])))


@app.command("list")
def list_scenarios() -> None:
    """Name the scenarios that ship with the package."""
    from fedlab.scenario import PACKAGED, packaged

    table = Table("scenario", "what it shows")
    for name in packaged():
        first = (PACKAGED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
        table.add_row(name, first.removeprefix("#").strip())
    console.print(table)


@app.command()
def data() -> None:
    """List the image sources that a scenario can name."""
    from fedlab.data.sources import SOURCES

    table = Table("source", "images")
    for name, source in SOURCES.items():
        table.add_row(f"{name}:{source.argument}" if source.argument else name, source.description)
    console.print(table)


@app.command()
def ledger(folder: RunPath) -> None:
    """Print every client's privacy account."""
    from fedlab.report.tables import clients_table
    from fedlab.report.terminal import ledger_of
    from fedlab.runs.folder import RunFolder

    run_folder = RunFolder.open(folder)
    console.print(clients_table(run_folder, ledger_of(run_folder)))


def main() -> None:
    """Run a command; bad input ends with 2 and one sentence, a failed run with 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("fedlab").setLevel(logging.INFO)
    try:
        app(standalone_mode=False)
    except (BadInput, RunFailed) as error:
        complaints.print(f"fedlab: {error}")
        sys.exit(2 if isinstance(error, BadInput) else 1)
    except typer.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
