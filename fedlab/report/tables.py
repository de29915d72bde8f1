"""A run as text tables: one row per round, one per attacked image, one per client."""

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import pandas as pd
from rich.table import Table

from fedlab.privacy.ledger import Ledger
from fedlab.runs.folder import RunFolder
from fedlab.runs.rows import RoundRow
from fedlab.scenario import Scenario
from fedlab.schedule import spell


def rounds_table(run: RunFolder, ledger: Ledger) -> Table:
    """Round by round: what was on, what it cost, and what the server saw.

    Epsilons are the largest over clients; where totals differ, the finite ones are named.
    """
    table = Table(title=f"{run.scenario.name}: round by round", caption=_CAPTION)
    for column in (
        "round", "defense", "accuracy", "attack success", "eps protected", "eps total",
        "PSNR dB", "SSIM", "chance PSNR", "verdict",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column in ("defense", "verdict") else "right")
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
            _most_common(clients[clients["round"] == row.round]["defenses"]),
            f"{row.accuracy:.3f}",
            _rate(row),
            _protected(until),
            _totals(until),
            *_seen(seen),
        )
    return table


def clients_table(run: RunFolder, ledger: Ledger) -> Table:
    """Client by client: its roles, and what all of its rounds cost in privacy."""
    scenario = run.scenario
    table = Table(title="Privacy, client by client", caption=f"delta = {ledger.delta:g}, "
                  f"{ledger.accountant.upper()} accountant, unit: one example")  # fmt: skip
    for column in ("client", "role", "defenses by round", "eps protected", "eps total"):
        table.add_column(
            column, justify="left" if "e" in column[:3] or "d" in column[:1] else "right"
        )
    for clients, text in _alike(sorted(ledger.histories), _client_line(scenario, ledger)):
        table.add_row(spell(clients), *text)
    return table


_CAPTION = (
    "Epsilon: largest over clients; a total is infinite once a client took part without DP-SGD. "
    "PSNR, SSIM and chance: medians over the images that the server attacked."
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
    totals = {client: ledger.total(client) for client in ledger.histories}
    finite = {client: value for client, value in totals.items() if math.isfinite(value)}
    if not finite or len(finite) == len(totals):
        return number(max(totals.values(), default=None))
    return f"∞; {number(max(finite.values()))} (client {spell(finite)})"


def _seen(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return ["-"] * 4
    leaking = int((rows["verdict"] == "leaks").sum())
    verdict = f"leaks ({leaking} of {len(rows)})" if leaking else "not shown"
    return [
        f"{rows['psnr'].median():.1f}",
        f"{rows['ssim'].median():.2f}",
        f"{rows['chance_psnr'].median():.1f}",
        verdict,
    ]


def _most_common(defenses: "pd.Series[str]") -> str:
    counts = defenses.value_counts()
    if len(counts) == 1:
        return str(counts.index[0])
    return ", ".join(f"{name} x{count}" for name, count in counts.items())


def _client_line(scenario: Scenario, ledger: Ledger) -> Callable[[int], tuple[str, ...]]:
    def line(client: int) -> tuple[str, ...]:
        history = ledger.histories[client]
        roles = dict.fromkeys(scenario.role(round=e.round, client=client).role for e in history)
        mechanisms = [
            f"{name} {spell(e.round for e in history if e.mechanism == name)}"
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
