"""Output of a finished run in a terminal."""

import math
from collections import Counter
from pathlib import Path

from rich.console import Console

from attacks.reconstruction.components import name_of
from fedlab.evaluation.leaks import Leak
from fedlab.metrics.verdict import POWERFUL
from fedlab.report.figures.leaks import run_figure
from fedlab.report.figures.reconstructions import save
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.numbers import counted, interval, plain
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.verdicts.learning import learning_verdicts
from fedlab.report.verdicts.run import mismatch_sentence
from fedlab.results.attacks import UNKNOWN
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


def attack_lines(leak: Leak, malicious: str | None) -> list[str]:
    """State what an attack on one update was, what it found, and its power: two lines.

    Args:
        leak: A leak that was just scored.
        malicious: Name of the server's attack on the clients; ``None`` for an honest server.
    """
    row, found, server = leak.rows[0], leak.reconstruction, f"malicious server ({malicious}), "
    parts = [server * (malicious is not None) + f"preset {row.preset}"]
    if row.preset == malicious:  # images are read out, without any preset
        parts = [server + "images read out without a preset"]
    elif found is not None:
        parts.append(f"method {name_of(found.attack.method)}")
    parts += [f"{row.rounds_jointly} rounds jointly"] * (row.rounds_jointly > 1)
    grades = Counter(row.verdict for row in leak.rows if row.target in ("original", UNKNOWN))
    shares = [row.power for row in leak.rows if not math.isnan(row.power)]
    power = "power not measured"
    if shares:
        power = f"power {interval(f'{min(shares):.2f}', f'{max(shares):.2f}')}, " + (
            "the share of images that it finds at simulated clients without a defense"
            if min(shares) >= POWERFUL
            else f"so no image is called not shown (below {POWERFUL})"
        )
    counts = ", ".join(f"{count} {grade}" for grade, count in grades.most_common())
    return [
        f"attack: {', '.join(parts)}",
        f"verdict on {counted(grades.total(), 'image')}: {counts}; {power}",
    ]


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
