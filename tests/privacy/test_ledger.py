import math

import pytest
from opacus.accountants import PRVAccountant, RDPAccountant

from fedlab.privacy.accountant import epsilon
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import PrivacyRelease, from_json, longer, to_json


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


@pytest.mark.parametrize(("name", "kind"), [("rdp", RDPAccountant), ("prv", PRVAccountant)])
def test_epsilon_is_that_of_opacus_over_the_whole_history(name: str, kind: type) -> None:
    steps = ((1.0, 0.1, 30), (0.8, 0.1, 10))
    theirs = kind()
    for noise, rate, count in steps:
        for _ in range(count):
            theirs.step(noise_multiplier=noise, sample_rate=rate)
    assert epsilon(steps, accountant=name, delta=1e-5) == pytest.approx(theirs.get_epsilon(1e-5))


def test_an_open_round_makes_the_total_infinite_for_good() -> None:
    history = (private(1), PrivacyRelease(2, 1, "none"), private(3))
    rows = Ledger({4: history}).rows()
    assert [math.isinf(row.epsilon_total) for row in rows] == [False, True, True]
    assert rows[2].epsilon_protected == pytest.approx(
        epsilon(((1.0, 0.05, 40),), accountant="rdp", delta=1e-5)
    )
    assert rows[1].statement == "open"


def test_mixing_never_enters_the_dp_sgd_total() -> None:
    mixing = PrivacyRelease(2, 1, "dp-instahide", steps=100, epsilon=49_000.0)
    row = Ledger({0: (private(1), mixing)}).rows()[-1]
    assert row.epsilon_round == 49_000.0
    assert row.statement == "vacuous"
    assert row.epsilon_protected == pytest.approx(2.481, abs=2e-3)
    assert math.isinf(row.epsilon_total)
    assert row.adjacency == "replace-one, labels public"


def test_clipping_alone_is_no_privacy() -> None:
    row = Ledger({0: (private(1, noise=0.0),)}).rows()[0]
    assert math.isinf(row.epsilon_total)
    assert row.statement == "none"


def test_histories_survive_the_journey() -> None:
    history = (
        private(1),
        PrivacyRelease(2, 1, "none"),
        PrivacyRelease(3, 2, "dp-instahide", epsilon=math.inf),
    )
    assert from_json(to_json(history)) == history


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"rond": 1}]'])
def test_what_is_no_history_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no accountant history"):
        from_json(text)


def test_the_longer_history_wins_and_a_conflict_is_refused() -> None:
    one, two = (private(1),), (private(1), private(2))
    assert longer(one, two) == two
    assert longer(two, one) == two
    with pytest.raises(ValueError, match="disagree"):
        longer(two, (private(1, noise=0.5),))


def test_an_open_round_shows_the_account_that_the_client_used() -> None:
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
    assert (never.unit, never.epsilon_protected) == ("example", None)
