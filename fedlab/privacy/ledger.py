"""Each client's privacy loss over all rounds and mechanisms, one row for each participation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedlab.privacy.accountant import Step, epsilon
from fedlab.privacy.instahide import statement
from fedlab.privacy.spending import History, Spending

ADJACENCY = {"dp-sgd": "add-or-remove-one", "dp-instahide": "replace-one", "none": ""}


@dataclass(frozen=True)
class LedgerRow:
    """What one participation of one client cost, and what it has cost so far.

    Attributes:
        epsilon_round: Of this round alone.
        epsilon_protected: Of all DP-SGD rounds so far together; ``None`` before the first.
        epsilon_total: Of everything so far: infinite once any participation was not DP-SGD.
        statement: ``formal``, ``vacuous`` (a bound that says nothing), ``none`` (no bound)
            or ``open`` (no defense).
    """

    round: int
    client: int
    mechanism: str
    unit: str
    adjacency: str
    accountant: str
    clipping_norm: float | None
    noise_multiplier: float | None
    sample_rate: float | None
    steps: int | None
    delta: float | None
    epsilon_round: float | None
    epsilon_protected: float | None
    epsilon_total: float
    statement: str


@dataclass(frozen=True)
class Ledger:
    """The privacy accounts of all clients.

    Attributes:
        histories: Every client's spending in order, by partition id.
        accountant: Which of Opacus' accountants counts DP-SGD.
        delta: Of every epsilon of DP-SGD.
    """

    histories: Mapping[int, History]
    accountant: Literal["rdp", "prv"] = "rdp"
    delta: float = 1e-5

    def rows(self, round: int | None = None) -> list[LedgerRow]:
        """One row per participation, by round and client; of one round if given."""
        rows = [
            self._row(client, history[: index + 1])
            for client, history in self.histories.items()
            for index, entry in enumerate(history)
            if round is None or entry.round == round
        ]
        return sorted(rows, key=lambda row: (row.round, row.client))

    def until(self, round: int) -> "Ledger":
        """The accounts as they stood after a round."""
        histories = {
            client: tuple(entry for entry in history if entry.round <= round)
            for client, history in self.histories.items()
        }
        return replace(self, histories=histories)

    def protected(self, client: int) -> float | None:
        """Epsilon of a client's DP-SGD rounds so far, ``None`` if it had none."""
        return self._protected(self.histories.get(client, ()))

    def total(self, client: int) -> float:
        """Epsilon of everything that a client sent so far; 0 if it sent nothing."""
        return self._total(self.histories.get(client, ()))

    def _row(self, client: int, history: History) -> LedgerRow:
        entry = history[-1]
        private = entry.mechanism == "dp-sgd"
        return LedgerRow(
            round=entry.round,
            client=client,
            mechanism=entry.mechanism,
            unit="example",
            adjacency=ADJACENCY[entry.mechanism],
            accountant=self.accountant if private else "",
            clipping_norm=entry.clipping_norm,
            noise_multiplier=entry.noise_multiplier,
            sample_rate=entry.sample_rate,
            steps=entry.steps,
            delta=self.delta if private else None,
            epsilon_round=self._round(entry),
            epsilon_protected=self._protected(history),
            epsilon_total=self._total(history),
            statement=_statement(entry),
        )

    def _round(self, entry: Spending) -> float | None:
        if entry.mechanism == "dp-sgd":
            return epsilon(_steps([entry]), accountant=self.accountant, delta=self.delta)
        return math.inf if entry.mechanism == "none" else entry.epsilon

    def _protected(self, history: History) -> float | None:
        steps = _steps(history)
        return epsilon(steps, accountant=self.accountant, delta=self.delta) if steps else None

    def _total(self, history: History) -> float:
        if any(entry.mechanism != "dp-sgd" for entry in history):
            return math.inf
        return epsilon(_steps(history), accountant=self.accountant, delta=self.delta)


def _steps(history: Sequence[Spending]) -> tuple[Step, ...]:
    return tuple(
        (entry.noise_multiplier, entry.sample_rate, entry.steps)
        for entry in history
        if entry.mechanism == "dp-sgd"
        and entry.noise_multiplier is not None
        and entry.sample_rate is not None
        and entry.steps is not None
    )


def _statement(entry: Spending) -> str:
    if entry.mechanism == "none":
        return "open"
    if entry.mechanism == "dp-sgd":
        return "formal" if entry.noise_multiplier else "none"
    return statement(entry.epsilon)
