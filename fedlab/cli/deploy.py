"""The command ``fedlab deploy``."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.cli.options import Overrides
from fedlab.core.consoles import console


def deploy(
    scenario: Annotated[
        str, typer.Argument(help="Scenario file or packaged name; with --resume the run folder.")
    ],
    overrides: Overrides = None,
    superlink: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of the SuperLink.")
    ] = "127.0.0.1:8000",
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Certificate of the authority that signed the SuperLink's certificate.",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Talk to the SuperLink without TLS.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder SCENARIO.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the run. Default: a free name in the folder runs."),
    ] = None,
) -> None:
    """Run a scenario on Flower SuperNodes with images of their own; see docs/deploying.md.

    Call it on the machine of the SuperLink. A scenario that names code by package.module:Name runs
    that code.
    """
    from fedlab.core.errors import BadInput
    from fedlab.core.files import check_folder
    from fedlab.engine.deployment import run_on_superlink
    from fedlab.report.tables.terminal import report
    from fedlab.results.folder import RunFolder, next_free
    from fedlab.scenario.scenario import Scenario

    if insecure == (certificate is not None):
        raise BadInput("give either --certificate FILE for TLS, or --insecure")
    if resume and (overrides or out):
        raise BadInput("--resume takes neither --set nor --out: the run folder has its scenario")
    if resume:
        folder = Path(scenario)
        run = RunFolder.open(folder)
        run.claim()  # else the sentence would come from the SuperLink, after half a minute
        run.release()
        chosen = run.scenario
    else:
        chosen = Scenario.load(scenario, overrides or ())
        folder = out or next_free(Path("runs"), chosen.name)
        check_folder(folder)
    run_on_superlink(
        chosen,
        folder,
        address=superlink,
        certificate=certificate,
        on_line=console.print,
        resume=resume,
    )
    report(folder, console)
