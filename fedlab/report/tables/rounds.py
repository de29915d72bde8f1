"""A run as a table with one row per round."""

from collections import Counter, defaultdict

import pandas as pd

from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.report.tables.ledger import UNBOUNDED
from fedlab.report.tables.naming import named
from fedlab.report.tables.numbers import interval, number, plain
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.verdicts.counts import skipped_sentence
from fedlab.report.verdicts.run import mismatch_sentence
from fedlab.results.attacks import counted_by_round, scored_images
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
    table = run.table("leakage")
    leakage = scored_images(table)
    defenses = dict(iter(run.table("clients").groupby("round")["defenses"]))
    attacked = _leakage(leakage)
    done = run.rounds()
    # A round in which every client was over its budget is in no history.
    protected, totals = (
        ledger.course(account, total=total).reindex(range(1, len(done)), method="ffill")
        for total in (False, True)
    )
    most, ends = protected.max(axis=1), totals.agg(["min", "max"], axis=1)
    rows: list[list[object]] = []
    for row in done:
        rows.append(
            [
                row.round,
                _defenses(defenses.get(row.round)) if row.round else "untrained",
                row.accuracy,
                _success(row),
                most.get(row.round),
                _totals(ends, row.round),
                *attacked.get(row.round, ["-"] * 4),
            ]
        )
    note = [_epsilon_note(ledger, account)]
    note.append("PSNR, SSIM and chance: medians over the images that the server attacked.")
    if skipped := skipped_sentence(table):
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


def _defenses(names: "pd.Series[str] | None") -> str:
    """The defenses of most clients, and the number of clients with others below."""
    if names is None:
        return "-"  # clients.csv was cut
    (most, _), *others = Counter(map(named, names)).most_common()
    return "\n".join([str(most), *(f"+{count} {name}" for name, count in others)])


def _success(row: RoundRow) -> str:
    if row.attack_success_rate is None:
        return "-"
    chance = row.chance_success_rate
    return f"{row.attack_success_rate:.2f}" + ("" if chance is None else f" ({chance:.2f})")


def _totals(ends: pd.DataFrame, round: int) -> str:
    if round not in ends.index:
        return "-"
    low, high = map(float, ends.loc[round])
    return interval(number(low), number(high), joint=" … ")


def _leakage(leakage: pd.DataFrame) -> dict[int, list[str]]:
    """PSNR, SSIM, chance and verdict of each attacked round; each server on lines of its own."""
    parts: dict[int, list[list[str]]] = defaultdict(list)
    for threat, rows in leakage.groupby("threat"):
        numbers = rows[["psnr", "ssim", "chance_psnr"]].apply(pd.to_numeric, errors="coerce")
        medians = numbers.groupby(rows["round"]).median()
        settings = rows.groupby("round")["setting"].unique()
        for round, found in counted_by_round(rows).items():
            counts = {"leaks": found.leaking, "recognisable": found.recognisable}
            count = counts.get(found.grade, found.images)
            skipped = f", {found.skipped} not attacked" * bool(found.skipped)
            server = "malicious server, " if threat == "malicious" else ""
            psnr, ssim, chance = medians.loc[round]
            parts[round].append(
                [
                    # Numbers take two lines, as the verdict does.
                    f"{plain(float(psnr), digits=1)}\n",
                    f"{plain(float(ssim))}\n",
                    f"{plain(float(chance), digits=1)}\n",
                    f"{found.grade} {count}/{found.images}{skipped}\n"
                    f"{server}{', '.join(sorted(settings[round]))}",
                ]
            )
    return {
        round: ["\n".join(cells).rstrip("\n") for cells in zip(*each, strict=True)]
        for round, each in parts.items()
    }
