"""The command line: its commands, and how each of them ends."""

import inspect
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_type_hints

import click
import typer
from typer.core import TyperArgument, TyperGroup

from fedlab.cli.audit import audit
from fedlab.cli.compare import compare
from fedlab.cli.data import data
from fedlab.cli.deploy import deploy
from fedlab.cli.export import export
from fedlab.cli.ledger import ledger
from fedlab.cli.list import list_plugins
from fedlab.cli.plan import plan
from fedlab.cli.poison import poison
from fedlab.cli.reconstruct import reconstruct
from fedlab.cli.reconstruct_files import reconstruct_files
from fedlab.cli.report import report
from fedlab.cli.resume import resume
from fedlab.cli.robustness import robustness
from fedlab.cli.run import run
from fedlab.cli.show import show
from fedlab.core.consoles import complaints, console, printable, replace_unknown_letters
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.files import DISK_FAILED

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as in shells."""

FILES = ("--global", "--reply")
"""Options by which ``fedlab reconstruct`` was once called for files."""


class _Commands(TyperGroup):
    """The commands; ``fedlab reconstruct`` takes captures and, in its old form, files as well."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.callback is not None:
            hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
            for parameter in command.params:
                # Click 8.5 drops the help that Typer 0.20 keeps on an argument.
                if isinstance(parameter, TyperArgument) and not parameter.help:
                    parameter.help = hints[parameter.name or ""].__metadata__[0].help
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "reconstruct" and (
            any(each.partition("=")[0] in FILES for each in args) or _holds_captures(args[1:2])
        ):
            args = ["reconstruct-files", *args[1:]]
        return super().resolve_command(ctx, args)


def _holds_captures(arguments: Sequence[str]) -> bool:
    """True if the first argument is a folder that ``fedlab.observe`` wrote, which is no run."""
    try:
        return any(next(Path(a).glob("reply-*.safetensors"), None) for a in arguments)
    except (OSError, ValueError):  # no path at all, or one that cannot be read
        return False


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _command in (run, resume, deploy, show, plan, ledger, poison, robustness, audit, reconstruct):
    app.command()(_command)
app.command("reconstruct-files")(reconstruct_files)
app.command()(compare)
app.command()(report)
app.command()(export)
app.command("list")(list_plugins)
app.add_typer(data, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        from fedlab.core.environment import version_of

        console.print(f"fedlab {version_of('fedlab-privacy')}, PyTorch {version_of('torch')}")
        raise typer.Exit


@app.callback()
def general(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of fedlab and PyTorch and exit.",
        ),
    ] = False,
) -> None:
    """A privacy testbed for federated learning on images."""


def main() -> None:
    """Run a command; bad input exits with 2 and one sentence, a failed run or disk with 1."""
    replace_unknown_letters()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("fedlab").setLevel(logging.INFO)
    try:
        # Typer returns the exit code that Ctrl-C stands for.
        if app(standalone_mode=False) == INTERRUPTED:
            complaints.print("fedlab: stopped; what is finished is kept")
            sys.exit(INTERRUPTED)
    except (BadInput, RunFailed) as error:
        complaints.print(f"fedlab: {printable(str(error))}")
        sys.exit(2 if isinstance(error, BadInput) else 1)
    except OSError as error:
        complaints.print(f"fedlab: {error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(1 if error.errno in DISK_FAILED else 2)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
