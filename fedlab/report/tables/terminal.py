"""Output of a finished run in a terminal."""

from pathlib import Path

from rich.console import Console

from fedlab.evaluation.leaks import Leak
from fedlab.report.figures.leaks import run_figure
from fedlab.report.figures.reconstructions import save
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.numbers import plain
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.verdicts.learning import learning_verdicts
from fedlab.report.verdicts.run import mismatch_sentence
from fedlab.results.folder import RunFolder

_LEAK_COLUMNS = (
    *(Column(name, "right", str) for name in ("image", "target")),
    Column("psnr", "right"),
    Column("ssim", "right", lambda value: plain(value, digits=3)),
    Column("chance_psnr", "right"),
    *(Column(name, text=str) for name in ("label_correct", "setting", "verdict")),
)

_SOURCE = {"psnr": "graded_psnr"}
"""Attributes of rows that have another name than their column."""


def report(folder: Path, console: Console) -> None:
    """Print the tables of a finished run, and draw its reconstructions in one picture."""
    run = RunFolder.open(folder)
    ledger = run.ledger()
    console.print(rounds_table(run, ledger))
    console.print(clients_table(ledger, run.scenario))
    for verdict in learning_verdicts(run.rounds()):
        console.print(f"{verdict.word}: {verdict.sentence}", soft_wrap=True)
    if run.leak_files:
        save(run_figure(run), run.picture_file)
        console.print(f"picture: {run.picture_file}", soft_wrap=True)
    console.print(f"run folder: {folder} ({run.size() / 1e6:.1f} MB)", soft_wrap=True)


def leak_table(leak: Leak) -> ReportTable:
    """Scores of one reconstruction, a line for each image and target."""
    reasons = leak.rows[0].reasons
    note = [
        f"easier than a real attack: {reasons}" if reasons else "",
        mismatch_sentence(leak.table()),
    ]
    extra = leak.rows[0].extra
    rows = [
        [
            *(getattr(row, _SOURCE.get(each.header, each.header)) for each in _LEAK_COLUMNS),
            *row.extra.values(),
        ]
        for row in leak.rows
    ]
    columns = [*_LEAK_COLUMNS, *(Column(name, "right") for name in extra)]
    text = "\n".join(filter(None, note))
    return ReportTable("Reconstructed images", columns, rows, text, names=2)
