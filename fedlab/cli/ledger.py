"""The command ``fedlab ledger``."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.cli.options import RunPath
from fedlab.core.consoles import console


def ledger(
    folder: RunPath,
    picture: Annotated[
        Path | None, typer.Option(help="PNG, PDF or SVG file in which the ledger is drawn too.")
    ] = None,
) -> None:
    """Print the privacy ledger of every client of a run, by round and in total."""
    from fedlab.report.tables.ledger import clients_table, ledger_table
    from fedlab.results.folder import RunFolder

    run_folder = RunFolder.open(folder)
    accounts = run_folder.ledger()
    console.print(ledger_table(accounts))
    console.print(clients_table(accounts, run_folder.scenario))
    if picture is not None:
        from fedlab.report.figures.reconstructions import save

        save(accounts.plot(), picture)
        console.print(f"picture: {picture}", soft_wrap=True)
