"""What a run says in a terminal when it ends."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedlab.evaluation.leaks import Leak
from fedlab.report.figures.leaks import run_figure
from fedlab.report.figures.reconstructions import save
from fedlab.report.tables.ledger import clients_table
from fedlab.report.tables.rounds import rounds_table
from fedlab.results.folder import RunFolder


def report(folder: Path, console: Console) -> None:
    """Print the tables of a finished run and draw all its reconstructions in one picture."""
    run = RunFolder.open(folder)
    ledger = run.ledger()
    console.print(rounds_table(run, ledger))
    console.print(clients_table(run.scenario, ledger))
    if run.leak_files:
        save(run_figure(run), run.picture_file)
        console.print(f"picture: {run.picture_file}", soft_wrap=True)
    megabytes = run.size() / 1e6
    console.print(f"run folder: {folder} ({megabytes:.1f} MB)", soft_wrap=True)


def leak_table(leak: Leak) -> Table:
    """Scores of one reconstruction, a line for each image and target."""
    columns = ("image", "target", "psnr", "ssim", "chance_psnr", "label_correct", "setting")
    reasons = leak.rows[0].reasons
    why = f"easier than a real attack by: {reasons}" if reasons else None
    table = Table(*columns, "verdict", title="What the server rebuilt", caption=why)
    for row in leak.rows:
        table.add_row(
            str(row.image),
            row.target,
            f"{row.psnr:.2f}",
            f"{row.ssim:.3f}",
            f"{row.chance_psnr:.2f}",
            str(row.label_correct),
            row.setting,
            row.verdict,
        )
    return table
