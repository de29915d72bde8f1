"""The command ``fedlab export``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedlab.core.consoles import console
from fedlab.core.errors import BadInput, RunFailed


def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or of a comparison.")],
    to: Annotated[
        Literal["csv", "parquet", "tensorboard", "breaching"],
        typer.Option(
            help="Format: tables as csv or parquet, tensorboard events, or one kept reply for the "
            "attack library breaching."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to, new or empty.")],
    round: Annotated[
        int | None,
        typer.Option(help="Round of the reply, counted from 1. Needed for breaching."),
    ] = None,
    client: Annotated[
        int | None,
        typer.Option(help="Client of the reply, counted from 0. Needed for breaching."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels of the images behind the reply, such as 3,5, for breaching. Default: "
            "inferred."
        ),
    ] = None,
) -> None:
    """Export a run or a comparison: tables, TensorBoard events, or a reply for breaching."""
    from fedlab.core.files import check_folder

    check_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise BadInput(f"{out} is not empty: name another folder with --out")
    if to != "breaching" and any(each is not None for each in (round, client, labels)):
        raise BadInput("--round, --client and --labels are for --to breaching, of a single reply")
    if to in ("csv", "parquet"):
        _tables(folder, "csv" if to == "csv" else "parquet", out)
    elif to == "tensorboard":
        _events(folder, out)
    else:
        _reply(folder, round, client, labels, out)


def _tables(folder: Path, kind: Literal["csv", "parquet"], out: Path) -> None:
    from fedlab.comparison import Comparison, is_comparison
    from fedlab.integrations.exports.tables import tables_of_comparison, tables_of_run, write_tables
    from fedlab.results.folder import RunFolder

    damaged: list[str] = []
    if is_comparison(folder):
        compared = Comparison.open(folder)
        tables = tables_of_comparison(compared.frame, compared.leakage)
    else:
        tables = tables_of_run(RunFolder.open(folder), damaged)
    for file in write_tables(tables, out, kind):
        console.print(f"table: {file}", soft_wrap=True)
    if damaged:
        raise RunFailed(f"not all tables could be exported: {'; '.join(damaged)}")


def _events(folder: Path, out: Path) -> None:
    from fedlab.comparison import Comparison, is_comparison
    from fedlab.integrations.exports.tensorboard import write_events
    from fedlab.results.folder import RunFolder

    if is_comparison(folder):
        # TensorBoard takes each subfolder for a run and draws them beside each other.
        for run in Comparison.open(folder).runs:
            write_events(run.folder, out / run.folder.path.name)
    else:
        write_events(RunFolder.open(folder), out)
    console.print(f"look at it with: tensorboard --logdir {out}", soft_wrap=True)


def _reply(
    folder: Path, round: int | None, client: int | None, labels: str | None, out: Path
) -> None:
    from fedlab.integrations.exports.breaching import case_of_run, write_case
    from fedlab.results.folder import RunFolder

    if round is None or client is None:
        raise BadInput("name the reply to export: --round and --client")
    parts = [] if labels is None else labels.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise BadInput(f'labels "{labels}" must be whole numbers with commas: 3,5')
    case = case_of_run(
        RunFolder.open(folder),
        round=round,
        client=client,
        labels=[int(part) for part in parts] or None,
    )
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"breaching-{round:04d}-{client:05d}.pt"
    write_case(case, file)
    console.print(
        f"for fedlab.integrations.exports.breaching.read_case or torch.load: {file}", soft_wrap=True
    )
