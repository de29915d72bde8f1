"""The command line."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.table import Table

from fedlab.cli.compare import compare
from fedlab.cli.export import export
from fedlab.cli.reconstruct import reconstruct
from fedlab.cli.report import write_report
from fedlab.core.consoles import complaints, console
from fedlab.core.errors import BadInput, RunFailed

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(compare)
app.command()(reconstruct)
app.command("report")(write_report)
app.command()(export)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace a setting: training.lr=0.05, roles.0.batch_size=4, ..."),
]
ScenarioName = Annotated[str, typer.Argument(help="A name from `fedlab list`, or a TOML file.")]
RunPath = Annotated[Path, typer.Argument(help="The folder of a run.")]


def _told(version: bool) -> None:
    if version:
        from fedlab.core.environment import version_of

        console.print(f"fedlab {version_of('fedlab-privacy')}, PyTorch {version_of('torch')}")
        raise typer.Exit


@app.callback()
def general(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_told, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """A privacy testbed for federated learning on images."""


@app.command()
def run(
    scenario: ScenarioName,
    overrides: Overrides = None,
    engine: Annotated[str | None, typer.Option(help="in-process or ray.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the run.")] = None,
) -> None:
    """Run a scenario and print what leaked, what was poisoned and what it cost."""
    from fedlab.core.files import check_folder
    from fedlab.report.tables.terminal import report
    from fedlab.results.folder import next_free
    from fedlab.scenario.scenario import Scenario

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
        from fedlab.simulation.federation import Federation

        federation = Federation(chosen, out=folder, on_round=lambda done: console.print(str(done)))
        console.print(f"{chosen.name}: {chosen.rounds} rounds, writing to {folder}")
        federation.run()
    report(folder, console)


@app.command()
def resume(folder: RunPath) -> None:
    """Go on with a run after its last finished round, on the engine that it was started on."""
    from fedlab.report.tables.terminal import report
    from fedlab.results.folder import RunFolder

    scenario = RunFolder.open(folder).scenario
    if scenario.engine.name == "ray":
        from fedlab.engine.ray import run_on_ray

        run_on_ray(scenario, folder, on_line=console.print, resume=True)
    else:
        from fedlab.simulation.federation import Federation

        federation = Federation.resume(folder, on_round=lambda done: console.print(str(done)))
        console.print(f"going on after round {federation.round} of {scenario.rounds}")
        federation.run()
    report(folder, console)


@app.command()
def show(scenario: ScenarioName, overrides: Overrides = None) -> None:
    """Print the schedule: rounds across, clients down, roles and defenses in the cells."""
    from fedlab.report.tables.schedule import schedule_grid
    from fedlab.scenario.scenario import Scenario

    console.print(schedule_grid(Scenario.load(scenario, overrides or [])))


@app.command()
def poison(
    scenario: Annotated[
        str, typer.Argument(help="A name from `fedlab list`, a TOML file, or the folder of a run.")
    ],
    overrides: Overrides = None,
    client: Annotated[
        int | None, typer.Option(help="Which; the first that poisons images.")
    ] = None,
    round: Annotated[int | None, typer.Option(help="Which; the first in which it does.")] = None,
    images: Annotated[int, typer.Option(min=1, max=16, help="Most images to show.")] = 8,
    out: Annotated[Path, typer.Option(help="PNG file to write; its folder is made.")] = Path(
        "poison.png"
    ),
) -> None:
    """Show what a poisoning client would do to its images: clean, poisoned, difference.

    Poisons that are brewed against global weights take those of the run, if a run is named, and
    the untrained ones otherwise.
    """
    from fedlab.core.files import check_folder
    from fedlab.report.figures.reconstructions import save
    from fedlab.results.checkpoint import Checkpoint
    from fedlab.results.folder import RunFolder
    from fedlab.scenario.scenario import Scenario
    from fedlab.simulation.poison_preview import preview

    check_folder(out.parent)
    if out.is_dir():
        raise BadInput(f"{out} is a folder: name a PNG file")
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


@app.command("list")
def list_scenarios() -> None:
    """Name the scenarios that ship with the package."""
    from fedlab.scenario.scenario import PACKAGED, packaged

    table = Table("scenario", "what it shows")
    for name in packaged():
        first = (PACKAGED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
        table.add_row(name, first.removeprefix("#").strip())
    console.print(table)


@app.command()
def data() -> None:
    """List the image sources that a scenario can name."""
    from fedlab.data.registry import DATASETS
    from fedlab.data.request import argument_of

    table = Table("source", "images")
    for name in DATASETS.builtin:
        function = DATASETS.get(name)
        argument = argument_of(function)
        first = (function.__doc__ or "").splitlines()[0]
        table.add_row(f"{name}:{argument}" if argument else name, first)
    console.print(table)


@app.command()
def ledger(
    folder: RunPath,
    picture: Annotated[Path | None, typer.Option(help="Also draw it, into this PNG file.")] = None,
) -> None:
    """Print every client's privacy account, round by round and in all."""
    from fedlab.report.figures.reconstructions import save
    from fedlab.report.tables.ledger import clients_table, ledger_table
    from fedlab.results.folder import RunFolder

    run_folder = RunFolder.open(folder)
    accounts = run_folder.ledger()
    console.print(ledger_table(accounts))
    console.print(clients_table(run_folder.scenario, accounts))
    if picture is not None:
        save(accounts.plot(), picture)
        console.print(f"picture: {picture}", soft_wrap=True)


@app.command()
def robustness(
    folder: RunPath,
    epsilon: Annotated[float, typer.Option(help="Largest change of a pixel, of 255.")] = 8.0,
    iterations: Annotated[int, typer.Option(help="Of PGD and of WITCHcraft.")] = 20,
    images: Annotated[int, typer.Option(help="Test images, at most.")] = 500,
) -> None:
    """Attack the final model's test images: its accuracy under noise, PGD and WITCHcraft."""
    from fedlab.simulation.federation import Federation

    if not 0 < epsilon <= 255:
        raise BadInput(f"--epsilon is in (0, 255], not {epsilon:g}")
    federation = Federation.resume(folder)
    found = federation.robustness(epsilon=epsilon / 255, iterations=iterations, images=images)
    console.print(str(found), soft_wrap=True)


@app.command()
def audit(folder: RunPath) -> None:
    """Print what the canaries of a run say of a client's epsilon; ends with 1 if it is wrong."""
    from fedlab.results.folder import RunFolder
    from fedlab.simulation.auditing import verdict_of

    verdict = verdict_of(RunFolder.open(folder))
    if not verdict.holds:
        raise RunFailed(str(verdict))
    console.print(str(verdict), soft_wrap=True)


def main() -> None:
    """Run a command; bad input ends with 2 and one sentence, a failed run with 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("fedlab").setLevel(logging.INFO)
    try:
        # Typer hands Ctrl-C back as the exit code that it stands for.
        if app(standalone_mode=False) == INTERRUPTED:
            complaints.print("fedlab: stopped; what is finished is kept")
            sys.exit(INTERRUPTED)
    except (BadInput, RunFailed) as error:
        complaints.print(f"fedlab: {error}")
        sys.exit(2 if isinstance(error, BadInput) else 1)
    except OSError as error:
        complaints.print(f"fedlab: {error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(2)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
