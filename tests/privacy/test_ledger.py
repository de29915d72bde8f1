"""Rows and totals of the ledger, and histories as text."""

import math
from typing import Any

import pytest

from fedlab.privacy.accountant import epsilon
from fedlab.privacy.history_text import from_json, to_json
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import PrivacyRelease, longer


def private(round: int, noise: float = 1.0) -> PrivacyRelease:
    return PrivacyRelease(
        round=round,
        participation=round - 1,
        mechanism="dp-sgd",
        clipping_norm=1.0,
        noise_multiplier=noise,
        sample_rate=0.05,
        steps=20,
    )


# Twenty steps a round at q = 0.05, delta = 1e-5: one round, and ten rounds in one history.
@pytest.mark.parametrize(
    ("noise", "one", "ten"),
    [(0.5, 12.361, 27.988), (0.7, 5.666, 11.977), (1.0, 2.481, 5.368), (2.0, 0.600, 1.721)],
)
def test_rounds_compose_in_one_history(noise: float, one: float, ten: float) -> None:
    ledger = Ledger({0: tuple(private(r, noise) for r in range(1, 11))})
    rows = ledger.rows()
    assert [row.epsilon_round for row in rows] == pytest.approx([one] * 10, abs=2e-3)
    assert rows[0].epsilon_total == pytest.approx(one, abs=2e-3)
    assert rows[-1].epsilon_total == pytest.approx(ten, abs=2e-3)


def test_open_round_makes_the_total_infinite() -> None:
    history = (private(1), PrivacyRelease(2, 1, "none"), private(3))
    rows = Ledger({4: history}).rows()
    assert [math.isinf(row.epsilon_total) for row in rows] == [False, True, True]
    assert rows[2].epsilon_protected == pytest.approx(
        epsilon(((1.0, 0.05, 40),), accountant="rdp", delta=1e-5)
    )
    assert rows[1].statement == "open"


def test_dp_instahide_is_not_in_the_dp_sgd_total() -> None:
    mixing = PrivacyRelease(2, 1, "dp-instahide", steps=100, epsilon=49_000.0)
    row = Ledger({0: (private(1), mixing)}).rows()[-1]
    assert row.epsilon_round == 49_000.0
    assert row.statement == "vacuous"
    assert row.epsilon_protected == pytest.approx(2.481, abs=2e-3)
    assert math.isinf(row.epsilon_total)
    assert row.adjacency == "replace-one, labels public"


def test_clipping_without_noise_has_infinite_epsilon() -> None:
    row = Ledger({0: (private(1, noise=0.0),)}).rows()[0]
    assert math.isinf(row.epsilon_total)
    assert row.statement == "none"


def test_history_round_trips_through_json() -> None:
    history = (
        private(1),
        PrivacyRelease(2, 1, "none"),
        PrivacyRelease(3, 2, "dp-instahide", epsilon=math.inf),
    )
    assert from_json(to_json(history)) == history


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"rond": 1}]'])
def test_malformed_history_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no accountant history"):
        from_json(text)


def test_longer_history_wins_and_conflict_is_refused() -> None:
    one, two = (private(1),), (private(1), private(2))
    assert longer(one, two) == two
    assert longer(two, one) == two
    with pytest.raises(ValueError, match="disagree"):
        longer(two, (private(1, noise=0.5),))


def test_open_round_shows_the_clients_account() -> None:
    noisy = PrivacyRelease(
        1, 0, "clip-noise", clipping_norm=0.5, noise_multiplier=8.0, sample_rate=1.0, steps=1
    )
    rows = Ledger(
        {0: (noisy, PrivacyRelease(2, 1, "none")), 1: (PrivacyRelease(1, 0, "none"),)}
    ).rows()
    protected, never, opened = rows
    assert (opened.unit, opened.epsilon_protected) == ("client", protected.epsilon_protected)
    assert (opened.adjacency, opened.statement) == ("", "open")
    assert math.isinf(opened.epsilon_total)
    assert (never.unit, never.epsilon_protected) == ("", None)


def foreign(participation: int, **cost: Any) -> PrivacyRelease:
    return PrivacyRelease(
        participation + 1,
        participation,
        "mine:Mine",
        unit="client",
        adjacency="replace-one",
        **cost,
    )


def test_foreign_releases_keep_their_own_sensitivity() -> None:
    noise = {"noise_multiplier": 4.0, "sample_rate": 1.0, "steps": 1}
    history = (foreign(0, sensitivity=2.0, **noise), foreign(1, **noise))
    for entries in (history, history[::-1]):
        row = Ledger({0: entries}).rows()[-1]
        assert row.epsilon_total == pytest.approx(
            epsilon(((2.0, 1.0, 1), (4.0, 1.0, 1)), accountant="rdp", delta=1e-5)
        )
    assert from_json(to_json(history)) == history


def test_foreign_sensitivity_below_one_counts_as_one() -> None:
    entry = foreign(0, noise_multiplier=4.0, sample_rate=1.0, steps=1, sensitivity=0.1)
    assert Ledger({0: (entry,)}).total(0, Ledger({0: (entry,)}).accounts[0]) == pytest.approx(
        epsilon(((4.0, 1.0, 1),), accountant="rdp", delta=1e-5)
    )


def test_foreign_epsilon_given_labels_needs_public_labels() -> None:
    history = (foreign(0, epsilon=0.5, needs_public_labels=True),)
    assert math.isinf(Ledger({0: history}).rows()[0].epsilon_total)
    assert Ledger({0: history}, labels_public=True).rows()[0].epsilon_total == 0.5


@pytest.mark.parametrize(
    ("public", "epsilon", "statement", "words"),
    [
        (False, 9.0, "formal", "does not declare public"),
        (True, 9.0, "formal", ""),
        (True, 900.0, "vacuous", "above 100"),
        (True, None, "none", "no epsilon"),
    ],
)
def test_a_bound_states_its_reason(public, epsilon, statement, words):
    mixing = PrivacyRelease(1, 0, "dp-instahide", steps=9, epsilon=epsilon)
    (row,) = Ledger({0: (mixing,)}, labels_public=public).rows()
    assert row.statement == statement
    assert words in row.reason
    assert bool(words) is bool(row.reason)
