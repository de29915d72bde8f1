"""Privacy accounts: the unit, the adjacency and the composition of each mechanism's epsilon.

An epsilon holds for one unit and one adjacency only. Each mechanism has its own account, and
epsilons of different accounts are never added.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from fedlab.core.errors import nearest
from fedlab.privacy.accountant import epsilon, merged
from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.folds import Fold
from fedlab.privacy.privacy_loss import Step
from fedlab.privacy.release import (
    OPEN,
    History,
    Mechanism,
    PrivacyRelease,
    Unit,
)

UNCOVERED: frozenset[Mechanism] = frozenset({OPEN, "leakage-gate"})
"""Mechanisms without any guarantee, which leave their whole participation unprotected: an open
release, and a decision that depends on the images."""


@dataclass(frozen=True)
class Account:
    """The meaning of an epsilon, and how the releases of a mechanism compose.

    Attributes:
        unit: Unit of protection: ``example`` for one example of a client, ``client`` for all data
            of a client.
        adjacency: Difference between neighbouring data sets, such as ``add-or-remove-one`` or
            ``replace-one``; free text for the ledger.
        mechanism: Name of the defense whose releases count; filled in for a foreign defense.
        composition: ``gaussian`` if an accountant composes noise multiplier, sample rate and steps;
            ``sum`` if each release states an epsilon and these add up.
        sensitivity: Largest L2 distance between two neighbouring releases before the noise, in
            units of the clipping norm: 1 where an example is added or removed, 2 where a clipped
            update is replaced. The accountant divides the noise multiplier by it; a value below 1
            counts as 1. It has to be stated for ``gaussian`` composition.
        needs_public_labels: True if the epsilon protects images given their labels only; it then
            has a total only where the scenario declares labels public.

    Raises:
        ValueError: If the unit or the composition is unknown, or a sensitivity is missing.
    """

    unit: Unit
    adjacency: str
    mechanism: Mechanism = ""
    composition: Literal["gaussian", "sum"] = "sum"
    sensitivity: float | None = None
    needs_public_labels: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("unit", self.unit, get_args(Unit)),
            ("composition", self.composition, ("gaussian", "sum")),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; {nearest(str(value), known)}")
        if self.composition == "gaussian" and self.sensitivity is None:
            raise ValueError(
                'composition = "gaussian" needs a sensitivity: 1 where an example is added or '
                "removed, 2 where a clipped update is replaced by another"
            )

    def covers(self, participation: History) -> bool:
        """Return true if the account protects everything that was sent in a participation.

        Args:
            participation: Entries of one participation of one client.
        """
        return any(entry.mechanism == self.mechanism for entry in participation) and not any(
            entry.mechanism in UNCOVERED or (entry.void and entry.mechanism == self.mechanism)
            for entry in participation
        )

    def epsilon(
        self, entries: History, *, accountant: AccountantName, delta: float
    ) -> float | None:
        """Compute epsilon of all releases of this account among some entries together.

        Args:
            entries: Entries of one client's history.
            accountant: Accountant of Gaussian noise.
            delta: Delta, in (0, 1), at which Gaussian noise is counted.

        Returns:
            Epsilon; ``None`` if the account has no release among the entries, or if no bound
            exists (DP-InstaHide with Gaussian noise).
        """
        own = composed(self, entries)
        if not own.releases:
            return None
        if self.composition == "sum":
            return own.summed
        if own.noiseless is None:
            return epsilon(own.steps, accountant=accountant, delta=delta)
        if self.mechanism not in ACCOUNTS:
            return None  # some releases of a foreign mechanism do not state their noise
        raise ValueError(f"the entry of round {own.noiseless} lacks noise, sample rate or steps")

    def total(self, history: History, *, accountant: AccountantName, delta: float) -> float:
        """Compute epsilon of a whole history; infinite if any participation is not covered.

        Args:
            history: Privacy history of one client.
            accountant: Accountant of Gaussian noise.
            delta: Delta, in (0, 1), at which Gaussian noise is counted.

        Returns:
            Epsilon; 0 for an empty history.
        """
        if not composed(self, history).covered:
            return math.inf
        value = self.epsilon(history, accountant=accountant, delta=delta)
        if value is None:
            return math.inf if history else 0.0
        return value


EXAMPLE = Account("example", "add-or-remove-one", "dp-sgd", "gaussian", sensitivity=1.0)
"""Account of DP-SGD; neighbours differ by one image with its label, added or removed."""

CLIENT = Account("client", "replace-one", "clip-noise", "gaussian", sensitivity=2.0)
"""Account of clip-noise; neighbours differ in all data of a client. Two clipped updates differ by
at most twice the clipping norm, so the noise counts half."""

IMAGE = Account(
    "example", "replace-one, labels public", "dp-instahide", "sum", needs_public_labels=True
)
"""Account of DP-InstaHide; neighbours differ in one image, and labels are not protected."""

ACCOUNTS: dict[Mechanism, Account] = {
    account.mechanism: account for account in (EXAMPLE, CLIENT, IMAGE)
}
"""Accounts of the built-in mechanisms, by the name of the defense."""


def account_of(entry: PrivacyRelease) -> Account | None:
    """Return the account of a release; ``None`` for an unprotected one.

    The sensitivity of a foreign release is not in the account: it may differ from entry to entry,
    and ``as_step`` takes it from each entry.
    """
    if entry.mechanism in ACCOUNTS or entry.unit is None or entry.adjacency is None:
        return ACCOUNTS.get(entry.mechanism)
    return Account(
        entry.unit,
        entry.adjacency,
        entry.mechanism,
        "sum" if entry.noise_multiplier is None else "gaussian",
        sensitivity=1.0,
        needs_public_labels=bool(entry.needs_public_labels),
    )


def as_step(entry: PrivacyRelease, sensitivity: float = 1.0) -> Step:
    """Convert a release of Gaussian noise to the entry of an accountant, for sensitivity 1.

    The noise multiplier is divided by the largest sensitivity that applies: that of the account,
    that of the entry, or 2 for batches of fixed size. In such a batch an added example replaces
    another, so the sum of clipped gradients moves by up to twice the clipping norm.

    Args:
        entry: Release of Gaussian noise.
        sensitivity: Sensitivity of the account, in units of the clipping norm.

    Returns:
        Noise multiplier, sample rate and number of steps.

    Raises:
        ValueError: If the entry lacks noise, sample rate or steps.
    """
    if entry.noise_multiplier is None or entry.sample_rate is None or entry.steps is None:
        raise ValueError(f"the entry of round {entry.round} lacks noise, sample rate or steps")
    moved = max(sensitivity, entry.sensitivity or 1.0, 2.0 if entry.fixed_batch else 1.0)
    return entry.noise_multiplier / moved, entry.sample_rate, entry.steps


@dataclass(frozen=True)
class Composed:
    """The releases of an account among the entries of a client's history, together.

    Attributes:
        covered: True if the account protects every participation.
        releases: Number of releases of the account that count.
        steps: Gaussian noise of them, merged as accountants take it; see ``as_step``.
        noiseless: Round of the first of them without noise multiplier, sample rate or steps, which
            is missing in ``steps``; ``None`` if there is none.
        summed: Sum of their pure epsilons, in which each frozen set of records counts once;
            ``None`` if one of them states no epsilon.
        sets: Names of the frozen sets of records so far.
    """

    covered: bool = True
    releases: int = 0
    steps: tuple[Step, ...] = ()
    noiseless: int | None = None
    summed: float | None = 0.0
    sets: frozenset[str] = frozenset()

    def plus(self, account: Account, participation: History) -> "Composed":
        """The same with one more participation."""
        own = [e for e in participation if e.mechanism == account.mechanism and not e.void]
        steps, noiseless, summed, sets = self.steps, self.noiseless, self.summed, self.sets
        for entry in own:
            if None not in (entry.noise_multiplier, entry.sample_rate, entry.steps):
                steps = merged((*steps, as_step(entry, account.sensitivity or 1.0)))
            elif noiseless is None:
                noiseless = entry.round
            if entry.release is None or entry.release not in sets:
                both = None not in (summed, entry.epsilon)
                summed = (summed or 0.0) + (entry.epsilon or 0.0) if both else None
            if entry.release is not None:
                sets |= {entry.release}
        covered = self.covered and account.covers(participation)
        return Composed(covered, self.releases + len(own), steps, noiseless, summed, sets)


MOST_KEPT = 700
"""Number of histories of which an account keeps its releases: one for each of so many clients."""


def composed(account: Account, history: History) -> Composed:
    """Compose all releases of an account among the entries of a client's history."""
    return _fold(account).of(history)


@lru_cache(maxsize=16)
def _fold(account: Account) -> Fold[Composed]:
    def plus(found: Composed, participation: History) -> Composed:
        return found.plus(account, participation)

    return Fold(Composed(), plus, most=MOST_KEPT)


Mechanisms = Mapping[Mechanism, Account | None]
"""Mechanisms in order of their first release, with their accounts."""


def mechanisms_of(history: History) -> Mechanisms:
    """The mechanisms among the entries of a client's history."""
    return _mechanisms.of(history)


def _with_mechanisms(found: Mechanisms, participation: History) -> Mechanisms:
    return {**found, **{entry.mechanism: account_of(entry) for entry in participation}}


_mechanisms = Fold[Mechanisms]({}, _with_mechanisms, most=MOST_KEPT)
