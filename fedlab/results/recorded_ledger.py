"""The privacy ledger of a run folder, with the values that the run has already computed."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedlab.privacy.accounts import Account, composed
from fedlab.privacy.ledger import POOLS, Chances, Ledger
from fedlab.privacy.release import History, participations


@dataclass(frozen=True)
class RecordedLedger(Ledger):
    """A ledger that looks values up before it computes them, since Opacus takes seconds to load.

    Attributes:
        recorded: Epsilon of releases of one mechanism together, as the run computed it.
        ceilings: Ceilings by releases and chance, as the run computed them.
    """

    recorded: Mapping[History, float] = field(default_factory=dict, repr=False)
    ceilings: Mapping[tuple[History, float], float] = field(default_factory=dict, repr=False)

    def _epsilon(self, account: Account, history: History) -> float | None:
        own = tuple(entry for entry in history if entry.mechanism == account.mechanism)
        known = self.recorded.get(own)
        return super()._epsilon(account, own) if known is None else known

    def _total(self, account: Account, history: History) -> float:
        if not composed(account, history).covered:
            return math.inf
        epsilon = self._epsilon(account, history)
        return epsilon if epsilon is not None else (math.inf if history else 0.0)

    def _ceilings(self, history: History, chances: Chances) -> tuple[float, ...] | None:
        keys = [(history, chance) for chance in chances]
        if all(key in self.ceilings for key in keys):
            return tuple(self.ceilings[key] for key in keys)
        return super()._ceilings(history, chances)


def recorded_epsilons(
    file: Path, histories: Mapping[int, History], *, accountant: str, delta: float
) -> dict[History, float]:
    """Epsilons of Gaussian noise that a ledger file states, for ``RecordedLedger``.

    Args:
        file: The ``ledger.csv`` of a run. A file that cannot be read costs time only, since the
            epsilons are then computed.
        histories: Every client's releases, by partition id.
        accountant: Accountant of the run; rows of another one are left out.
        delta: Delta of the run; rows of another one are left out.
    """
    try:
        rows = {
            (int(row["client"]), int(row["participation"]), row["mechanism"]): (
                float(row["epsilon_round"]),
                float(row["epsilon_protected"]),
            )
            for row in _lines(file)
            if row["accountant"] == accountant and float(row["delta"]) == delta
        }
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
    found: dict[History, float] = {}
    for client, history in histories.items():
        own: dict[str, History] = {}
        for entry in history:
            own[entry.mechanism] = (*own.get(entry.mechanism, ()), entry)
            row = rows.get((client, entry.participation, entry.mechanism))
            if row is not None:
                found[(entry,)], found[own[entry.mechanism]] = row
    return found


def recorded_ceilings(
    file: Path, histories: Mapping[int, History]
) -> dict[tuple[History, float], float]:
    """Ceilings that a ledger file states, for ``RecordedLedger``; arguments as above."""
    try:
        rows = {
            (int(row["client"]), int(row["participation"])): (
                float(row["ceiling_10"]),
                float(row["ceiling_100"]),
            )
            for row in _lines(file)
        }
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
    found: dict[tuple[History, float], float] = {}
    for client, history in histories.items():
        sent: History = ()
        for part in participations(history):
            sent = (*sent, *part)
            known = rows.get((client, part[0].participation), ())
            found |= {(sent, chance): value for chance, value in zip(POOLS, known, strict=False)}
    return found


def worst_recorded(file: Path) -> str:
    """The largest total epsilon that a ledger file states, in words.

    Args:
        file: The ``ledger.csv`` of a run.
    """
    try:
        totals = {int(row["client"]): float(row["epsilon_total"]) for row in _lines(file)}
        client = max(totals, key=lambda each: totals[each])
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return f"{file.name} states none either"
    return (
        f"the worst that {file.name} states is epsilon {totals[client]:.3f} of client {client}, "
        "which later releases can only raise"
    )


def _lines(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
