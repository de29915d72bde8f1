"""The privacy ledger of a run folder, with the values that the run has already computed."""

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from fedlab.privacy.accounts import MOST_KEPT, Account, composed
from fedlab.privacy.folds import Fold
from fedlab.privacy.ledger import POOLS, Chances, Ledger
from fedlab.privacy.release import History, Mechanism, PrivacyRelease, participations

Name = bytes
"""SHA-256 of entries of a history, one after another: of a long run, the entries themselves would
be too many to keep for each round."""

NOTHING: Name = b""
"""Name of no entries."""


@dataclass(frozen=True)
class RecordedLedger(Ledger):
    """A ledger that looks values up before it computes them, since Opacus takes seconds to load.

    Attributes:
        recorded: Epsilon of releases of one mechanism together, as the run computed it.
        ceilings: Ceilings of 10 and of 100 images by releases, as the run computed them.
    """

    recorded: Mapping[Name, float] = field(default_factory=dict, repr=False)
    ceilings: Mapping[Name, tuple[float, float]] = field(default_factory=dict, repr=False)

    def _epsilon(self, account: Account, history: History) -> float | None:
        known = self.recorded.get(_names(account.mechanism).of(history))
        return super()._epsilon(account, history) if known is None else known

    def _total(self, account: Account, history: History) -> float:
        if not composed(account, history).covered:
            return math.inf
        epsilon = self._epsilon(account, history)
        return epsilon if epsilon is not None else (math.inf if history else 0.0)

    def _ceilings(self, history: History, chances: Chances) -> tuple[float, ...] | None:
        known = dict(zip(POOLS, self.ceilings.get(_names().of(history), ()), strict=False))
        if known.keys() >= set(chances):
            return tuple(known[chance] for chance in chances)
        return super()._ceilings(history, chances)


@lru_cache(maxsize=16)
def _names(mechanism: Mechanism | None = None) -> Fold[Name]:
    """Name of a client's entries of a mechanism, or of all."""

    def plus(name: Name, participation: History) -> Name:
        return _name(name, (e for e in participation if mechanism in (None, e.mechanism)))

    return Fold(NOTHING, plus, most=MOST_KEPT)


def _name(before: Name, entries: Iterable[PrivacyRelease]) -> Name:
    for entry in entries:
        before = hashlib.sha256(before + entry.json.encode()).digest()
    return before


def recorded_epsilons(
    file: Path, histories: Mapping[int, History], *, accountant: str, delta: float
) -> dict[Name, float]:
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
    found: dict[Name, float] = {}
    for client, history in histories.items():
        own: dict[Mechanism, Name] = {}
        for entry in history:
            own[entry.mechanism] = _name(own.get(entry.mechanism, NOTHING), [entry])
            row = rows.get((client, entry.participation, entry.mechanism))
            if row is not None:
                found[_name(NOTHING, [entry])], found[own[entry.mechanism]] = row
    return found


def recorded_ceilings(
    file: Path, histories: Mapping[int, History]
) -> dict[Name, tuple[float, float]]:
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
    found: dict[Name, tuple[float, float]] = {}
    for client, history in histories.items():
        sent = NOTHING
        for part in participations(history):
            sent = _name(sent, part)
            row = rows.get((client, part[0].participation))
            if row is not None:
                found[sent] = row
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
