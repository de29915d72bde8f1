"""Privacy accounts: an epsilon says something only about one unit and one adjacency.

Each mechanism has an account of its own, and nothing is ever added across accounts.
"""

import math
from dataclasses import dataclass
from typing import Literal

from fedlab.privacy.accountant import Step, epsilon
from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.release import (
    OPEN,
    History,
    Mechanism,
    PrivacyRelease,
    Unit,
    participations,
)

UNCOVERED: frozenset[Mechanism] = frozenset({OPEN, "leakage-gate"})
"""Mechanisms that undo every protection of their participation: an open release, and a decision
that depends on the images."""


@dataclass(frozen=True)
class Account:
    """What an epsilon is about, and how the releases of a mechanism compose.

    Attributes:
        unit: What is protected: one example, or the whole client.
        adjacency: How neighbouring data sets differ, such as ``add-or-remove-one``.
        mechanism: Name of the defense whose releases count; filled in for a foreign defense.
        composition: ``gaussian`` if an accountant composes noise multiplier, sample rate and steps;
            ``sum`` if each release states an epsilon and these add up.
        sensitivity: Largest L2 distance of two neighbouring releases before the noise, in units of
            the clipping norm.
        needs_public_labels: Whether the epsilon holds for images given their labels only, so that
            it has a total only where labels are declared public.
    """

    unit: Unit
    adjacency: str
    mechanism: Mechanism = ""
    composition: Literal["gaussian", "sum"] = "sum"
    sensitivity: float = 1.0
    needs_public_labels: bool = False

    def covers(self, participation: History) -> bool:
        """True if everything that was sent in a participation is protected in this sense."""
        return any(entry.mechanism == self.mechanism for entry in participation) and not any(
            entry.mechanism in UNCOVERED for entry in participation
        )

    def epsilon(
        self, entries: History, *, accountant: AccountantName, delta: float
    ) -> float | None:
        """Epsilon of all releases of this account among some entries together.

        Args:
            entries: Entries of one client's history.
            accountant: Accountant of Gaussian noise.
            delta: Delta at which Gaussian noise is counted.

        Returns:
            ``None`` without any release, or where no bound exists (Gaussian DP-InstaHide).
        """
        own = [entry for entry in entries if entry.mechanism == self.mechanism]
        if not own:
            return None
        if self.composition == "sum":
            return _summed(own)
        if self.mechanism not in ACCOUNTS and any(e.noise_multiplier is None for e in own):
            return None  # a foreign mechanism whose releases do not all state their noise
        steps = tuple(as_step(entry, self.sensitivity) for entry in own)
        return epsilon(steps, accountant=accountant, delta=delta)

    def total(self, history: History, *, accountant: AccountantName, delta: float) -> float:
        """Epsilon of everything in a history: infinite once a participation is not covered."""
        if not all(map(self.covers, participations(history))):
            return math.inf
        value = self.epsilon(history, accountant=accountant, delta=delta)
        if value is None:
            return math.inf if history else 0.0
        return value


EXAMPLE = Account("example", "add-or-remove-one", "dp-sgd", "gaussian")
"""DP-SGD: one image with its label is added or removed."""

CLIENT = Account("client", "replace-one", "clip-noise", "gaussian", sensitivity=2.0)
"""Clipped and noised updates: all of a client's data is replaced by other data. Two clipped updates
differ by at most twice the clipping norm, so the noise counts half."""

IMAGE = Account(
    "example", "replace-one, labels public", "dp-instahide", "sum", needs_public_labels=True
)
"""DP-InstaHide: one image is replaced by another of the same label; labels are not protected."""

ACCOUNTS: dict[Mechanism, Account] = {
    account.mechanism: account for account in (EXAMPLE, CLIENT, IMAGE)
}
"""Accounts of the built-in mechanisms."""


def account_of(entry: PrivacyRelease) -> Account | None:
    """The account that a release counts in; ``None`` for one that nothing protects."""
    if entry.mechanism in ACCOUNTS or entry.unit is None or entry.adjacency is None:
        return ACCOUNTS.get(entry.mechanism)
    return Account(
        entry.unit,
        entry.adjacency,
        entry.mechanism,
        "sum" if entry.noise_multiplier is None else "gaussian",
    )


def as_step(entry: PrivacyRelease, sensitivity: float = 1.0) -> Step:
    """A release of Gaussian noise as an accountant for sensitivity 1 counts it.

    An example that joins a batch of fixed size drives another out, so that the sum of clipped
    gradients moves by up to twice the clipping norm: the noise counts half, at rate 1.

    Args:
        entry: The release.
        sensitivity: Sensitivity of the account, in units of the clipping norm.

    Raises:
        ValueError: If it was another kind of release.
    """
    if entry.noise_multiplier is None or entry.sample_rate is None or entry.steps is None:
        raise ValueError(f"the entry of round {entry.round} lacks noise, sample rate or steps")
    moved = max(sensitivity, 2.0 if entry.fixed_batch else 1.0)
    return entry.noise_multiplier / moved, entry.sample_rate, entry.steps


def _summed(entries: list[PrivacyRelease]) -> float | None:
    """Pure epsilons add up; a frozen set of records costs once, however often it is used."""
    total, seen = 0.0, set[str]()
    for entry in entries:
        if entry.release is not None and entry.release in seen:
            continue
        if entry.release is not None:
            seen.add(entry.release)
        if entry.epsilon is None:
            return None
        total += entry.epsilon
    return total
