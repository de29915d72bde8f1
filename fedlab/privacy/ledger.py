"""Each client's privacy loss over all rounds and mechanisms, one row for each participation."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain

import pandas as pd

from fedlab.core.views import Viewable
from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.accounts import ACCOUNTS, EXAMPLE, UNCOVERED, Account, account_of
from fedlab.privacy.instahide import statement
from fedlab.privacy.release import History, PrivacyRelease, participations


@dataclass(frozen=True)
class LedgerRow:
    """What one participation of one client cost, and what it has cost so far.

    Attributes:
        participation: Of the client, counted from 0; a round that was run again has another.
        unit: What is hidden, of the account that the mechanism spends from or, of an open round,
            that the row shows.
        adjacency: How neighbouring data sets of that account differ.
        sampling: Of DP-SGD's batches: ``poisson``, or ``fixed`` in size, where the noise counts
            half.
        epsilon_round: Of this round alone.
        epsilon_protected: Of all rounds so far under the account's mechanism together; ``None``
            before the first. Open rounds show the account that the client used before, that of
            DP-SGD first; DP-InstaHide's show that of DP-SGD unless labels are public.
        epsilon_total: Of everything so far, in the account of the mechanism: infinite once any
            participation was not protected in its sense.
        statement: ``formal``, ``approximate`` (no bound, but close to one), ``vacuous`` (a bound
            that says nothing), ``none`` (no bound) or ``open`` (nothing that has an epsilon).
    """

    round: int
    client: int
    participation: int
    mechanism: str
    unit: str
    adjacency: str
    accountant: str
    clipping_norm: float | None
    noise_multiplier: float | None
    sample_rate: float | None
    sampling: str
    steps: int | None
    delta: float | None
    epsilon_round: float | None
    epsilon_protected: float | None
    epsilon_total: float
    statement: str


@dataclass(frozen=True)
class Ledger(Viewable):
    """The privacy accounts of all clients.

    Attributes:
        histories: Every client's spending in order, by partition id.
        accountant: Which of Opacus' accountants counts Gaussian noise.
        delta: Of every epsilon of Gaussian noise.
        labels_public: Whether DP-InstaHide's epsilon, for images given labels, has a total.
    """

    histories: Mapping[int, History]
    accountant: AccountantName = "rdp"
    delta: float = 1e-5
    labels_public: bool = False

    def rows(self, round: int | None = None) -> list[LedgerRow]:
        """One row per participation and mechanism, by round and client; of one round if given."""
        rows = [
            self._row(client, history[: index + 1], history[index])
            for client, history in self.histories.items()
            for index, entry in enumerate(history)
            if round is None or entry.round == round
        ]
        return sorted(rows, key=lambda row: (row.round, row.client))

    def table(self, round: int | None = None) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame([asdict(row) for row in self.rows(round)])

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that have a total and were spent from; that of DP-SGD if there is none."""
        return self._used(tuple(chain.from_iterable(self.histories.values())))

    @property
    def repeated(self) -> tuple[int, ...]:
        """Rounds that a client took part in more than once, as after an interruption."""
        taken = Counter(
            (client, part[0].round)
            for client, history in self.histories.items()
            for part in participations(history)
        )
        return tuple(sorted({round for (_, round), times in taken.items() if times > 1}))

    def until(self, round: int) -> "Ledger":
        """The accounts as they stood after a round."""
        histories = {
            client: tuple(entry for entry in history if entry.round <= round)
            for client, history in self.histories.items()
        }
        return replace(self, histories=histories)

    def protected(self, client: int, account: Account = EXAMPLE) -> float | None:
        """Epsilon of a client's rounds under an account's mechanism; ``None`` if it had none."""
        return self._epsilon(account, self.histories.get(client, ()))

    def protects(self, account: Account) -> bool:
        """Whether anybody took part under the account's mechanism."""
        return any(self.protected(client, account) is not None for client in self.histories)

    def total(self, client: int, account: Account = EXAMPLE) -> float:
        """Epsilon of everything that a client sent so far; 0 if it sent nothing."""
        return self._total(account, self.histories.get(client, ()))

    def _row(self, client: int, history: History, entry: PrivacyRelease) -> LedgerRow:
        own = account_of(entry)
        if own is None:
            account = self._used(history)[0]
        else:
            account = own if self._has_total(own) else EXAMPLE
        accounted = own is not None and own.composition == "gaussian"
        return LedgerRow(
            round=entry.round,
            client=client,
            participation=entry.participation,
            mechanism=entry.mechanism,
            unit=own.unit if own else account.unit,
            adjacency=own.adjacency if own else "",
            accountant=self.accountant if accounted else "",
            clipping_norm=entry.clipping_norm,
            noise_multiplier=entry.noise_multiplier,
            sample_rate=entry.sample_rate,
            sampling=_sampling(entry),
            steps=entry.steps,
            delta=self.delta if accounted else None,
            epsilon_round=self._round(history, entry),
            epsilon_protected=self._epsilon(account, history),
            epsilon_total=self._total(account, _whole(self.histories[client], history)),
            statement=self._statement(entry),
        )

    def _used(self, entries: History) -> tuple[Account, ...]:
        found = {entry.mechanism: account_of(entry) for entry in entries}
        order = [*ACCOUNTS, *(mechanism for mechanism in found if mechanism not in ACCOUNTS)]
        accounts = (found.get(mechanism) for mechanism in order)
        return tuple(each for each in accounts if each and self._has_total(each)) or (EXAMPLE,)

    def _has_total(self, account: Account) -> bool:
        return not account.needs_public_labels or self.labels_public

    def _round(self, history: History, entry: PrivacyRelease) -> float | None:
        account = account_of(entry)
        if entry.mechanism in UNCOVERED or account is None:
            return math.inf
        known = {each.release for each in history[:-1]}
        if entry.release is not None and entry.release in known:
            return 0.0  # the same records again tell nothing new
        return self._epsilon(account, (entry,))

    def _epsilon(self, account: Account, history: History) -> float | None:
        return account.epsilon(history, accountant=self.accountant, delta=self.delta)

    def _total(self, account: Account, history: History) -> float:
        return account.total(history, accountant=self.accountant, delta=self.delta)

    def _statement(self, entry: PrivacyRelease) -> str:
        if entry.mechanism in UNCOVERED:
            return "open"
        account = account_of(entry)
        if account is not None and account.composition == "sum":
            return statement(entry.epsilon)
        if not entry.noise_multiplier:
            return "none"
        return "approximate" if self.accountant == "gdp" else "formal"


def _sampling(entry: PrivacyRelease) -> str:
    if entry.mechanism != EXAMPLE.mechanism:
        return ""
    return "fixed" if entry.fixed_batch else "poisson"


def _whole(history: History, part: History) -> History:
    """A part of a history up to the end of its last participation, whose entries count as one."""
    last = part[-1].participation
    return tuple(entry for entry in history if entry.participation <= last)
