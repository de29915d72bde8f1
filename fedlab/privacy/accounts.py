"""The accounts that a client's privacy is kept in: what is protected, and against which change.

An epsilon says something only about one unit and one notion of neighbouring data sets, so each
pair has an account of its own, and nothing is ever added across them.
"""

import math
from dataclasses import dataclass
from typing import Literal

from fedlab.privacy.accountant import Step, epsilon
from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.release import History, Mechanism, PrivacyRelease, participations

UNCOVERED: frozenset[Mechanism] = frozenset({"none", "leakage-gate"})
"""What undoes every protection of the participation that it is part of: an open release, and a
decision that depends on the images."""


@dataclass(frozen=True)
class Account:
    """What an epsilon is about.

    Attributes:
        unit: What is hidden: one example, or the whole client.
        adjacency: How neighbouring data sets differ.
        mechanism: The defense whose releases count here.
    """

    unit: Literal["example", "client"]
    adjacency: str
    mechanism: Mechanism

    def covers(self, participation: History) -> bool:
        """Whether all that was sent in a participation is protected in this sense."""
        return any(entry.mechanism == self.mechanism for entry in participation) and not any(
            entry.mechanism in UNCOVERED for entry in participation
        )

    def epsilon(
        self, entries: History, *, accountant: AccountantName, delta: float
    ) -> float | None:
        """Epsilon of the releases of this account among some entries, all together.

        Returns:
            ``None`` without any, or where no bound exists (Gaussian DP-InstaHide).
        """
        own = [entry for entry in entries if entry.mechanism == self.mechanism]
        if not own:
            return None
        if self.mechanism == "dp-instahide":
            return _summed(own)
        return epsilon(tuple(map(as_step, own)), accountant=accountant, delta=delta)

    def total(self, history: History, *, accountant: AccountantName, delta: float) -> float:
        """Epsilon of everything in a history: infinite once a participation is not covered."""
        if not all(map(self.covers, participations(history))):
            return math.inf
        value = self.epsilon(history, accountant=accountant, delta=delta)
        if value is None:
            return math.inf if history else 0.0
        return value


EXAMPLE = Account("example", "add-or-remove-one", "dp-sgd")
"""DP-SGD: one image with its label is added or removed."""

CLIENT = Account("client", "replace-one", "clip-noise")
"""Clipped and noised updates: all of a client's data is replaced by other data. Two clipped updates
differ by at most twice the clipping norm, so the noise counts half."""

IMAGE = Account("example", "replace-one, labels public", "dp-instahide")
"""DP-InstaHide: one image is replaced by another of the same label; labels are not protected."""

ACCOUNTS: dict[Mechanism, Account] = {
    account.mechanism: account for account in (EXAMPLE, CLIENT, IMAGE)
}
"""Accounts by the mechanism that spends from them."""


def as_step(entry: PrivacyRelease) -> Step:
    """A release of Gaussian noise as the accountants of one example, or one client, count it.

    An example that joins a batch of fixed size drives another out, so that the sum of clipped
    gradients moves by up to twice the clipping norm: the noise counts half, at rate 1.

    Raises:
        ValueError: If it was another kind of release.
    """
    if entry.noise_multiplier is None or entry.sample_rate is None or entry.steps is None:
        raise ValueError(f"the entry of round {entry.round} lacks noise, sample rate or steps")
    sensitivity = 2.0 if entry.mechanism == CLIENT.mechanism or entry.fixed_batch else 1.0
    return entry.noise_multiplier / sensitivity, entry.sample_rate, entry.steps


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
