"""The privacy ledger of a run folder, with the epsilons that the run has already computed."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import History, participations


@dataclass(frozen=True)
class RecordedLedger(Ledger):
    """A ledger that looks epsilons up before it computes them, since Opacus takes seconds to load.

    Attributes:
        recorded: Epsilon of releases of one mechanism together, as the run computed it.
    """

    recorded: Mapping[History, float] = field(default_factory=dict, repr=False)

    def _epsilon(self, account: Account, history: History) -> float | None:
        own = tuple(entry for entry in history if entry.mechanism == account.mechanism)
        known = self.recorded.get(own)
        return super()._epsilon(account, own) if known is None else known

    def _total(self, account: Account, history: History) -> float:
        if not all(map(account.covers, participations(history))):
            return math.inf
        epsilon = self._epsilon(account, history)
        return epsilon if epsilon is not None else (math.inf if history else 0.0)


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
        with file.open(newline="", encoding="utf-8") as lines:
            rows = {
                (int(row["client"]), int(row["participation"]), row["mechanism"]): (
                    float(row["epsilon_round"]),
                    float(row["epsilon_protected"]),
                )
                for row in csv.DictReader(lines)
                if row["accountant"] == accountant and float(row["delta"]) == delta
            }
    except (OSError, ValueError, KeyError, TypeError):
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
