"""A run as a table with one row per round."""

import pandas as pd

from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.report.tables.ledger import UNBOUNDED
from fedlab.report.tables.naming import named
from fedlab.report.tables.numbers import interval, number, plain
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.verdicts.counts import skipped_sentence
from fedlab.report.verdicts.run import mismatch_sentence
from fedlab.results.attacks import counted_images, scored_images
from fedlab.results.folder import RunFolder
from fedlab.results.rows import RoundRow

_COLUMNS = (
    Column("round", "right", str),
    Column("defense"),
    Column("accuracy", "right", "{:.3f}".format),
    Column("success\n(chance)", "right"),
    Column("ε prot.\nrounds", "right", number),
    Column("ε\ntotal", "right"),
    Column("PSNR\ndB", "right"),
    Column("SSIM", "right"),
    Column("chance\ndB", "right"),
    Column("verdict"),
)


def rounds_table(run: RunFolder, ledger: Ledger) -> ReportTable:
    """Defenses, accuracy, attack success, epsilon and leakage of each round.

    Args:
        run: The run folder.
        ledger: The accounts of its clients.
    """
    account = ledger.accounts[0]
    leakage, clients = scored_images(run.table("leakage")), run.table("clients")
    rows: list[list[object]] = []
    for row in run.rounds():
        defenses = clients[clients["round"] == row.round]["defenses"]
        until = ledger.until(row.round)
        protected = (until.protected(client, account) for client in until.histories)
        rows.append(
            [
                row.round,
                _defenses(defenses) if row.round else "untrained",
                row.accuracy,
                _success(row),
                max((each for each in protected if each is not None), default=None),
                _totals(until, account) if row.round else "-",
                *_leakage(leakage[leakage["round"] == row.round]),
            ]
        )
    note = [_epsilon_note(ledger, account)]
    note.append("PSNR, SSIM and chance: medians over the images that the server attacked.")
    if skipped := skipped_sentence(run.table("leakage")):
        note.append(skipped)
    if run.scenario.poisons:
        note.append("Success: attack success rate; chance: the same rate on clean images.")
    note.append(mismatch_sentence(leakage))
    title = f"{run.scenario.name}: round by round"
    return ReportTable(title, _COLUMNS, rows, " ".join(filter(None, note)))


def _epsilon_note(ledger: Ledger, account: Account) -> str:
    if not ledger.protects(account):
        return f"ε: {UNBOUNDED}."
    return (
        f"ε prot. rounds: rounds under {account.mechanism}, which protects one {account.unit}; "
        "largest over clients. ε total: all rounds, smallest and largest over clients; infinite "
        f"once a client took part without {account.mechanism}."
    )


def _defenses(names: "pd.Series[str]") -> str:
    """The defenses of most clients, and the number of clients with others below."""
    if names.empty:
        return "-"  # clients.csv was cut
    (most, _), *others = names.map(named).value_counts().items()
    return "\n".join([str(most), *(f"+{count} {name}" for name, count in others)])


def _success(row: RoundRow) -> str:
    if row.attack_success_rate is None:
        return "-"
    chance = row.chance_success_rate
    return f"{row.attack_success_rate:.2f}" + ("" if chance is None else f" ({chance:.2f})")


def _totals(ledger: Ledger, account: Account) -> str:
    totals = [ledger.total(client, account) for client in ledger.histories]
    return interval(number(min(totals)), number(max(totals)), joint=" … ") if totals else "-"


def _leakage(rows: pd.DataFrame) -> list[str]:
    """PSNR, SSIM, chance and verdict; each server on lines of its own."""
    if rows.empty:
        return ["-"] * 4
    parts = [_server_leakage(str(threat), group) for threat, group in rows.groupby("threat")]
    return ["\n".join(cells).rstrip("\n") for cells in zip(*parts, strict=True)]


def _server_leakage(threat: str, rows: pd.DataFrame) -> list[str]:
    found = counted_images(rows)
    counts = {"leaks": found.leaking, "recognisable": found.recognisable}
    number = counts.get(found.grade, found.images)
    skipped = f", {found.skipped} not attacked" * bool(found.skipped)
    setting = ", ".join(sorted(set(rows["setting"])))
    server = "malicious server, " if threat == "malicious" else ""
    medians = rows[["psnr", "ssim", "chance_psnr"]].apply(pd.to_numeric, errors="coerce").median()
    return [
        # Numbers take two lines, as the verdict does.
        f"{plain(float(medians['psnr']), digits=1)}\n",
        f"{plain(float(medians['ssim']))}\n",
        f"{plain(float(medians['chance_psnr']), digits=1)}\n",
        f"{found.grade} {number}/{found.images}{skipped}\n{server}{setting}",
    ]
