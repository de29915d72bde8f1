"""A run as text tables: one row per round, one per attacked image, one per client."""

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Literal

import pandas as pd
from rich import box
from rich.table import Table

from fedlab.privacy.ledger import Ledger
from fedlab.runs.folder import RunFolder
from fedlab.runs.rows import RoundRow
from fedlab.scenario import Scenario
from fedlab.schedule import spell


def rounds_table(run: RunFolder, ledger: Ledger) -> Table:
    """Round by round: what was on, what it cost, and what the server saw."""
    table = Table(
        title=f"{run.scenario.name}: round by round",
        caption=_CAPTION,
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
            _protected(until),
            _totals(until),
            *_seen(seen),
        )
    return table


def clients_table(run: RunFolder, ledger: Ledger) -> Table:
    """Client by client: its roles, and what all of its rounds cost in privacy."""
    table = Table(
        title="Privacy, client by client",
        caption=f"delta = {ledger.delta:g}, {ledger.accountant.upper()} accountant, "
        "unit: one example",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("client", justify="right")
    table.add_column("role")
    table.add_column("defenses, by round")
    table.add_column("ε protected", justify="right")
    table.add_column("ε total", justify="right")
    for clients, text in _alike(sorted(ledger.histories), _client_line(run.scenario, ledger)):
        table.add_row(spell(clients), *text)
    return table


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("round", "right"),
    ("defense", "left"),
    ("accuracy", "right"),
    ("attack\nsuccess", "right"),
    ("ε prot.\nrounds", "right"),
    ("ε\ntotal", "right"),
    ("PSNR\ndB", "right"),
    ("SSIM", "right"),
    ("chance\ndB", "right"),
    ("verdict", "left"),
)

_CAPTION = (
    "ε prot. rounds: of the DP-SGD rounds, largest over clients. ε total: of all rounds, smallest "
    "and largest over clients; infinite once a client took part without DP-SGD. PSNR, SSIM and "
    "chance: medians over the images that the server attacked."
)


def number(value: float | None) -> str:
    """An epsilon as people read it."""
    if value is None:
        return "-"
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _rate(row: RoundRow) -> str:
    return "-" if row.attack_success_rate is None else f"{row.attack_success_rate:.3f}"


def _protected(ledger: Ledger) -> str:
    values = [v for c in ledger.histories if (v := ledger.protected(c)) is not None]
    return number(max(values, default=None))


def _totals(ledger: Ledger) -> str:
    totals = [ledger.total(client) for client in ledger.histories]
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
    leaking = int((rows["verdict"] == "leaks").sum())
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
        (f"leaks {leaking}/{len(rows)}" if leaking else "not shown") + f"\n{settings}",
    ]


def _defenses(names: "pd.Series[str]") -> str:
    """What most clients ran, and under it what the others did."""
    counts = names.replace("none", "open").value_counts()
    most, *others = counts.items()
    return "\n".join([str(most[0]), *(f"+{count} {name}" for name, count in others)])


def _client_line(scenario: Scenario, ledger: Ledger) -> Callable[[int], tuple[str, ...]]:
    def line(client: int) -> tuple[str, ...]:
        history = ledger.histories[client]
        roles = dict.fromkeys(scenario.role(round=e.round, client=client).role for e in history)
        mechanisms = [
            f"{'open' if name == 'none' else name} "
            + spell(e.round for e in history if e.mechanism == name)
            for name in dict.fromkeys(e.mechanism for e in history)
        ]
        return (
            ", ".join(roles),
            "; ".join(mechanisms),
            number(ledger.protected(client)),
            number(ledger.total(client)),
        )

    return line


def _alike(
    clients: Sequence[int], line: Callable[[int], tuple[str, ...]]
) -> list[tuple[list[int], tuple[str, ...]]]:
    """Neighbouring clients whose lines are equal, together."""
    return [(list(group), text) for text, group in groupby(clients, line)]
