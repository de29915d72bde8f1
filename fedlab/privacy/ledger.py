"""Privacy ledger: epsilon of each client after each participation, for every mechanism."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

import pandas as pd

from fedlab.core.views import Viewable
from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.accounts import (
    ACCOUNTS,
    EXAMPLE,
    MOST_KEPT,
    UNCOVERED,
    Account,
    Mechanisms,
    account_of,
    mechanisms_of,
)
from fedlab.privacy.ceiling import ceilings
from fedlab.privacy.folds import Fold
from fedlab.privacy.instahide import VACUOUS, statement
from fedlab.privacy.release import History, Mechanism, PrivacyRelease, participations

Chances = tuple[float, ...]
"""Probabilities of success without any release."""

POOLS: Chances = (1 / 10, 1 / 100)
"""Chances of finding the true image among 10 and among 100 images, for the columns of ceilings."""

LABELS = "it holds for images given their labels, which the scenario does not declare public"
"""Reason why an epsilon enters no total."""


@dataclass(frozen=True)
class LedgerRow:
    """The privacy cost of one mechanism in one participation, and of everything up to it.

    Attributes:
        round: Round number, counted from 1.
        client: Partition id of the client.
        participation: Number of earlier participations of the client; a repeated round counts
            again.
        mechanism: Name of the defense, or ``none`` for an unprotected participation.
        unit: Unit of protection of the account: ``example`` or ``client``. An open round shows the
            account that the client used before, and nothing if no mechanism has protected it yet.
        adjacency: Difference between neighbouring data sets of the account; empty for an open
            round.
        accountant: Accountant of Gaussian noise, ``rdp``, ``prv``, ``pld`` or ``gdp``; empty for
            mechanisms that are not accounted by one.
        clipping_norm: Largest L2 norm of one example's gradient (DP-SGD) or of the update.
        noise_multiplier: Standard deviation of the noise divided by the clipping norm.
        sample_rate: Probability, in (0, 1], that an example joins a batch.
        sampling: Sampling of DP-SGD's batches: ``poisson``, or ``fixed`` for batches of fixed size,
            for which the noise counts half. Empty for other mechanisms.
        steps: Number of noisy gradients, updates or mixed records released.
        delta: Delta of the epsilons of Gaussian noise.
        epsilon_round: Epsilon of this release alone; ``None`` if there is no bound.
        epsilon_protected: Epsilon of all releases so far of the account's mechanism together;
            ``None`` before the first. Open rounds show the account that the client used before,
            DP-SGD's first. Rows of DP-InstaHide show DP-SGD's unless labels are public.
        epsilon_total: Epsilon of everything so far in the account of the mechanism; infinite once
            any participation was not protected by it.
        ceiling_10: Largest probability, from 1/10 to 1, with which any attack on everything so far
            finds the true image among 10 equally likely ones; see ``fedlab.privacy.ceiling``. 1
            says nothing; ``None`` under the accountant ``gdp``, which certifies nothing.
        ceiling_100: The same among 100 images, from 1/100 to 1.
        statement: ``formal`` (a bound), ``claimed`` (a bound that a foreign defense states),
            ``approximate`` (close to a bound), ``vacuous`` (a bound
            too large to mean anything), ``none`` (no bound) or ``open`` (no protection).
        reason: Reason why there is no meaningful bound, or why it enters no total, or the condition
            under which it holds; empty if there is none, and for open rounds.
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
    ceiling_10: float | None
    ceiling_100: float | None
    statement: str
    reason: str


@dataclass(frozen=True)
class Ledger(Viewable):
    """The privacy accounts of all clients.

    Attributes:
        histories: Privacy history of every client, by partition id.
        accountant: Accountant of Gaussian noise: ``rdp``, ``prv``, ``pld`` or ``gdp``.
        delta: Delta, in (0, 1), of every epsilon of Gaussian noise.
        labels_public: True if labels are declared public, so that an epsilon for images given
            labels (DP-InstaHide) has a total.
    """

    histories: Mapping[int, History]
    accountant: AccountantName = "rdp"
    delta: float = 1e-5
    labels_public: bool = False

    def rows(
        self, round: int | None = None, *, clients: Iterable[int] | None = None
    ) -> list[LedgerRow]:
        """Return one row per participation and mechanism, sorted by round and client.

        Args:
            round: Round number to select; ``None`` for all rounds.
            clients: Partition ids to select; ``None`` for all clients.
        """
        rows = []
        for client in self.histories if clients is None else clients:
            history = self.histories.get(client, ())
            rows += [
                self._row(client, history[: place + 1], history[place])
                for place in _places(history, round)
            ]
        return sorted(rows, key=lambda row: (row.round, row.client))

    def table(self, round: int | None = None) -> pd.DataFrame:
        """Return the rows as a table with the attributes of ``LedgerRow`` as columns.

        Args:
            round: Round number to select; ``None`` for all rounds.
        """
        return pd.DataFrame([asdict(row) for row in self.rows(round)])

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Accounts that have a total and at least one release; DP-SGD's if there is none."""
        found: dict[Mechanism, Account | None] = {}
        for history in self.histories.values():
            found |= mechanisms_of(history)
        return self._used(found)

    @property
    def repeated(self) -> tuple[int, ...]:
        """Rounds in which a client took part more than once, such as after an interruption."""
        taken = Counter(
            (client, part[0].round)
            for client, history in self.histories.items()
            for part in participations(history)
        )
        return tuple(sorted({round for (_, round), times in taken.items() if times > 1}))

    def until(self, round: int) -> "Ledger":
        """Return the ledger as it was after a round."""
        return replace(self, histories={c: _until(h, round) for c, h in self.histories.items()})

    def protected(self, client: int, account: Account = EXAMPLE) -> float | None:
        """Compute epsilon of a client's releases in an account; ``None`` if it has none."""
        return self._epsilon(account, self.histories.get(client, ()))

    def protects(self, account: Account) -> bool:
        """Return true if any client has a release in an account."""
        return any(self.protected(client, account) is not None for client in self.histories)

    def course(self, account: Account, *, total: bool = False) -> pd.DataFrame:
        """Compute ``protected``, or ``total``, of every client after each round.

        Returns:
            Epsilons by round and client; of protected rounds NaN before the first release in the
            account.
        """
        epsilon = self._total if total else self._epsilon
        last = max((each[-1].round for each in self.histories.values() if each), default=0)
        rounds = range(1, last + 1)
        columns = {
            client: [epsilon(account, _until(history, round)) for round in rounds]
            for client, history in sorted(self.histories.items())
        }
        return pd.DataFrame(columns, index=list(rounds), dtype=float)

    def first_open(self, account: Account) -> dict[int, int]:
        """Return the first round without an account's protection, of clients that have one."""
        found: dict[int, int] = {}
        for client, history in sorted(self.histories.items()):
            for part in participations(history):
                if not account.covers(part):
                    found.setdefault(client, part[0].round)
        return found

    def total(self, client: int, account: Account = EXAMPLE) -> float:
        """Compute epsilon of everything that a client sent; 0 if it sent nothing."""
        return self._total(account, self.histories.get(client, ()))

    def ceiling(self, client: int, pool: int) -> float | None:
        """Compute how often any attack on a client's releases finds the true image of a pool.

        Args:
            client: Partition id.
            pool: Number N of images, at least 1, of which each is the true one with equal
                probability before anything is sent.

        Returns:
            Largest probability, from 1/N to 1; ``None`` under the accountant ``gdp``, which is no
            upper bound.
        """
        found = self._ceilings(self.histories.get(client, ()), (1 / pool,))
        return None if found is None else found[0]

    def _row(self, client: int, history: History, entry: PrivacyRelease) -> LedgerRow:
        own = account_of(entry)
        if own is None:
            account = self._used(mechanisms_of(history))[0]
        else:
            account = own if self._has_total(own) else EXAMPLE
        worth, reason = self._statement(entry)
        accounted = own is not None and own.composition == "gaussian"
        sent = _whole(self.histories[client], history)
        ceiling_10, ceiling_100 = self._ceilings(sent, POOLS) or (None, None)
        return LedgerRow(
            round=entry.round,
            client=client,
            participation=entry.participation,
            mechanism=entry.mechanism,
            unit=own.unit if own else self._unit(history),
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
            epsilon_total=self._total(account, sent),
            ceiling_10=ceiling_10,
            ceiling_100=ceiling_100,
            statement=worth,
            reason=reason,
        )

    def _used(self, found: Mechanisms) -> tuple[Account, ...]:
        order = [*ACCOUNTS, *(mechanism for mechanism in found if mechanism not in ACCOUNTS)]
        accounts = (found.get(mechanism) for mechanism in order)
        return tuple(each for each in accounts if each and self._has_total(each)) or (EXAMPLE,)

    def _unit(self, history: History) -> str:
        """Unit of the account that an open round shows; empty if nothing protected the client."""
        found = mechanisms_of(history)
        return self._used(found)[0].unit if any(found.values()) else ""

    def _has_total(self, account: Account) -> bool:
        return not account.needs_public_labels or self.labels_public

    def _round(self, history: History, entry: PrivacyRelease) -> float | None:
        account = account_of(entry)
        if entry.mechanism in UNCOVERED or account is None or entry.void:
            return math.inf
        if entry.release and any(each.release == entry.release for each in history[:-1]):
            return 0.0  # releasing the same records again costs nothing
        return self._epsilon(account, (entry,))

    def _epsilon(self, account: Account, history: History) -> float | None:
        return account.epsilon(history, accountant=self.accountant, delta=self.delta)

    def _total(self, account: Account, history: History) -> float:
        return account.total(history, accountant=self.accountant, delta=self.delta)

    def _ceilings(self, history: History, chances: Chances) -> tuple[float, ...] | None:
        if self.accountant == "gdp":
            return None
        found = ceilings(history, chances, labels_public=self.labels_public)
        return tuple(map(float, found))

    def _statement(self, entry: PrivacyRelease) -> tuple[str, str]:
        """Statement on a release, and the reason why its mechanism has no meaningful bound."""
        if entry.mechanism in UNCOVERED:
            return "open", ""
        if entry.void:
            return "none", entry.void
        account = account_of(entry)
        if account is not None and account.composition == "sum":
            found = statement(entry.epsilon)
            reason = {
                "none": "the mechanism states no epsilon",
                "vacuous": f"an epsilon above {VACUOUS:g} excludes nothing",
                "formal": "" if self._has_total(account) else LABELS,
            }[found]
        elif not entry.noise_multiplier:
            return "none", "the mechanism adds no noise"
        elif self.accountant == "gdp":
            return "approximate", ""
        else:
            found, reason = "formal", shared(entry.shared_by) if entry.shared_by else ""
        # Nobody but its author has checked the mechanism of a foreign defense.
        foreign = found == "formal" and entry.mechanism not in ACCOUNTS
        return "claimed" if foreign else found, reason


def shared(clients: int) -> str:
    """The condition of an epsilon whose noise several clients of a secure sum share."""
    return f"if {clients} clients of the secure sum add noise that the server does not know"


def _places(history: History, round: int | None) -> Iterable[int]:
    """Places of the entries of a round; ``None`` for all rounds."""
    if round is None:
        return range(len(history))
    if _order.of(history)[1]:
        return range(
            bisect_left(history, round, key=_round), bisect_right(history, round, key=_round)
        )
    return [place for place, entry in enumerate(history) if entry.round == round]


def _until(history: History, round: int) -> History:
    """The entries of all rounds up to one."""
    if _order.of(history)[1]:
        return history[: bisect_right(history, round, key=_round)]
    return tuple(entry for entry in history if entry.round <= round)


def _round(entry: PrivacyRelease) -> int:
    return entry.round


def _participation(entry: PrivacyRelease) -> int:
    return entry.participation


def _with_order(found: tuple[int, bool], participation: History) -> tuple[int, bool]:
    last, in_order = found
    for entry in participation:
        last, in_order = entry.round, in_order and last <= entry.round
    return last, in_order


_order = Fold((0, True), _with_order, most=MOST_KEPT)
"""Round of the last entry of a history, and whether its rounds are in order, as they are unless
some task was not answered."""


def _sampling(entry: PrivacyRelease) -> str:
    if entry.mechanism != EXAMPLE.mechanism:
        return ""
    return "fixed" if entry.fixed_batch else "poisson"


def _whole(history: History, part: History) -> History:
    """The history up to the end of the part's last participation, which counts as a whole."""
    # Of the whole history this is the same object, whose epsilon is kept.
    return history[: bisect_right(history, part[-1].participation, key=_participation)]
