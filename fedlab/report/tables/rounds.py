"""A run as a text table, one row per round."""

from typing import Literal

import pandas as pd
from rich import box
from rich.table import Table

from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.report.tables.ledger import UNBOUNDED
from fedlab.report.tables.naming import named
from fedlab.report.tables.numbers import number
from fedlab.report.verdicts.run import leaking_images
from fedlab.results.folder import RunFolder
from fedlab.results.rows import RoundRow


def rounds_table(run: RunFolder, ledger: Ledger) -> Table:
    """Round by round: what was on, what it cost, and what the server saw."""
    account = ledger.accounts[0]
    table = Table(
        title=f"{run.scenario.name}: round by round",
        caption=_caption(ledger, account, poisoned=bool(run.scenario.poisons)),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for header, justify in _COLUMNS:
        table.add_column(header, justify=justify)
    leakage = run.table("leakage")
    clients = run.table("clients")
    for row in run.rounds():
        if row.round == 0:
            table.add_row("0", "untrained", f"{row.accuracy:.3f}", _rate(row), *["-"] * 6)
            continue
        until = ledger.until(row.round)
        seen = leakage[(leakage["round"] == row.round) & (leakage["target"] == "original")]
        table.add_row(
            str(row.round),
            _defenses(clients[clients["round"] == row.round]["defenses"]),
            f"{row.accuracy:.3f}",
            _rate(row),
            _protected(until, account),
            _totals(until, account),
            *_seen(seen),
        )
    return table


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("round", "right"),
    ("defense", "left"),
    ("accuracy", "right"),
    ("success\n(chance)", "right"),
    ("ε prot.\nrounds", "right"),
    ("ε\ntotal", "right"),
    ("PSNR\ndB", "right"),
    ("SSIM", "right"),
    ("chance\ndB", "right"),
    ("verdict", "left"),
)


def _caption(ledger: Ledger, account: Account, *, poisoned: bool) -> str:
    about = (
        f"ε prot. rounds: of the rounds under {account.mechanism}, which hides one {account.unit}, "
        "largest over clients. ε total: of all rounds, smallest and largest over clients; infinite "
        f"once a client took part without {account.mechanism}."
        if ledger.protects(account)
        else f"ε: {UNBOUNDED}."
    )
    success = (
        " Success: of the poisoning, and how often clean images get the label that it wants."
        if poisoned
        else ""
    )
    return (
        f"{about} PSNR, SSIM and chance: medians over the images that the server attacked.{success}"
    )


def _rate(row: RoundRow) -> str:
    if row.attack_success_rate is None:
        return "-"
    chance = row.chance_success_rate
    return f"{row.attack_success_rate:.2f}" + ("" if chance is None else f" ({chance:.2f})")


def _protected(ledger: Ledger, account: Account) -> str:
    values = [v for c in ledger.histories if (v := ledger.protected(c, account)) is not None]
    return number(max(values, default=None))


def _totals(ledger: Ledger, account: Account) -> str:
    totals = [ledger.total(client, account) for client in ledger.histories]
    if not totals:
        return "-"
    low, high = number(min(totals)), number(max(totals))
    return high if low == high else f"{low} … {high}"


def _seen(rows: pd.DataFrame) -> list[str]:
    """Medians and verdict; those of a malicious server on lines of their own."""
    if rows.empty:
        return ["-"] * 4
    # A run of an earlier version has no such column.
    threats = rows["threat"] if "threat" in rows else pd.Series("honest-but-curious", rows.index)
    parts = [_seen_under(str(threat), group) for threat, group in rows.groupby(threats)]
    return ["\n".join(cells).rstrip("\n") for cells in zip(*parts, strict=True)]


def _seen_under(threat: str, rows: pd.DataFrame) -> list[str]:
    leaking, images = leaking_images(rows.assign(leaks=rows["verdict"] == "leaks"))
    settings = ", ".join(sorted(set(rows["setting"])))
    if threat == "malicious":
        settings = f"malicious server, {settings}"
    # Of an image that nothing was rebuilt of there is no number.
    numbers = rows[["psnr", "ssim", "chance_psnr"]].apply(pd.to_numeric, errors="coerce").median()
    return [
        # As many lines as the verdict has.
        f"{numbers['psnr']:.1f}\n",
        f"{numbers['ssim']:.2f}\n",
        f"{numbers['chance_psnr']:.1f}\n",
        (f"leaks {leaking}/{images}" if leaking else "not shown") + f"\n{settings}",
    ]


def _defenses(names: "pd.Series[str]") -> str:
    """What most clients ran, and under it what the others did."""
    counts = names.map(named).value_counts()
    most, *others = counts.items()
    return "\n".join([str(most[0]), *(f"+{count} {name}" for name, count in others)])
