"""What a run says in a terminal, while it goes on and when it ends."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from fedlab.leaks import Leak, load_leaks, picture
from fedlab.privacy.ledger import Ledger
from fedlab.report.figures import save
from fedlab.report.tables import clients_table, rounds_table
from fedlab.runs.checkpoint import Checkpoint
from fedlab.runs.folder import RunFolder

if TYPE_CHECKING:
    from fedlab.federation import RoundResult


def round_line(done: "RoundResult") -> str:
    """One line about a round that just ended."""
    model = done.model
    parts = [f"round {model.round}: accuracy {model.accuracy:.3f}"]
    if model.attack_success_rate is not None:
        parts.append(f"attack success {model.attack_success_rate:.3f}")
    if rebuilt := [row for row in done.leakage if row.target == "original"]:
        best = max(row.psnr for row in rebuilt)
        leaking = sum(row.verdict == "leaks" for row in rebuilt)
        parts.append(f"{leaking} of {len(rebuilt)} rebuilt images leak, best {best:.1f} dB")
    if refused := [row for row in done.clients if row.status != "ok"]:
        parts.append(f"skipped clients {[row.client for row in refused]}")
    return ", ".join(parts) + f" ({model.seconds:.1f} s)"


def report(folder: Path, console: Console) -> None:
    """Print the tables of a finished run and draw all its reconstructions in one picture."""
    run = RunFolder.open(folder)
    ledger = ledger_of(run)
    console.print(rounds_table(run, ledger))
    console.print(clients_table(run, ledger))
    files = sorted((folder / "reconstructions").glob("round-*.npz"))
    if files:
        leaks = [leak for file in files for leak in load_leaks(file)]
        title = f"{run.scenario.name}: what did the server see, round by round?"
        save(picture(leaks, title=title), run.picture)
        console.print(f"picture: {run.picture}", soft_wrap=True)
    megabytes = run.size() / 1e6
    console.print(f"run folder: {folder} ({megabytes:.1f} MB)", soft_wrap=True)


def ledger_of(run: RunFolder) -> Ledger:
    """The accounts of all clients as the last checkpoint holds them."""
    privacy = run.scenario.privacy
    histories = Checkpoint.load(run.checkpoint).histories
    return Ledger(dict(histories), privacy.accountant, privacy.delta)


def leak_table(leak: Leak) -> Table:
    """Scores of one reconstruction, a line for each image and target."""
    columns = ("image", "target", "psnr", "ssim", "chance_psnr", "label_correct", "setting")
    table = Table(*columns, "verdict", title="What the server rebuilt")
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
