"""Tests of bounds on epsilon, against scipy and mechanisms of known epsilon."""

import math

import pytest
import torch
from scipy import stats

from attacks.privacy_audit.binomial import at_least, highest_rate, lowest_rate, probabilities
from attacks.privacy_audit.bounds import (
    auc,
    bound_by_guessing,
    epsilon_from_guesses,
    epsilon_from_rates,
    p_value,
    tpr_at_fpr,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randomised_response(count, epsilon, *, generator):
    """Coins, and scores that tell each of them with the odds that epsilon allows."""
    included = torch.rand(count, generator=generator) < 0.5
    honest = torch.rand(count, generator=generator) < 1 / (1 + math.exp(-epsilon))
    return included, torch.where(honest, included, ~included).float()


@pytest.mark.parametrize(("trials", "rate"), [(0, 0.3), (7, 0.0), (7, 1.0), (300, 0.82)])
def test_probabilities_match_scipy(trials, rate):
    expected = torch.tensor(stats.binom.pmf(range(trials + 1), trials, rate))
    torch.testing.assert_close(probabilities(trials, rate), expected, rtol=1e-9, atol=1e-12)
    assert at_least(trials // 2, trials=trials, rate=rate) == pytest.approx(
        stats.binom.sf(trials // 2 - 1, trials, rate)
    )


@pytest.mark.parametrize(("successes", "trials"), [(0, 9), (9, 9), (3, 50), (180, 200)])
def test_rate_bounds_match_scipy(successes, trials):
    interval = stats.binomtest(successes, trials).proportion_ci(0.9, method="exact")
    assert lowest_rate(successes, trials=trials, confidence=0.95) == pytest.approx(interval.low)
    assert highest_rate(successes, trials=trials, confidence=0.95) == pytest.approx(interval.high)


def slow_p_value(m, r, v, epsilon, delta):
    """Theorem 5.2 as it is written: one i after the other."""
    rate = 1 / (1 + math.exp(-epsilon))
    most = max(
        (stats.binom.cdf(v - 1, r, rate) - stats.binom.cdf(v - i - 1, r, rate)) / i
        for i in range(1, v + 1)
    )
    return min(1.0, stats.binom.sf(v - 1, r, rate) + 2 * m * delta * most)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
@pytest.mark.parametrize(("m", "r", "v"), [(200, 200, 150), (500, 50, 50), (40, 20, 1)])
def test_p_value_matches_the_theorem(m, r, v, epsilon, delta):
    found = p_value(canaries=m, guesses=r, correct=v, epsilon=epsilon, delta=delta)
    assert found == pytest.approx(slow_p_value(m, r, v, epsilon, delta), rel=1e-7)


def test_bound_is_where_p_value_crosses_the_level():
    counts = {"canaries": 500, "guesses": 300, "correct": 250, "delta": 1e-5}
    bound = epsilon_from_guesses(**counts, confidence=0.95)
    assert p_value(**counts, epsilon=bound) == pytest.approx(0.05, rel=1e-6)
    assert all(p_value(**counts, epsilon=bound * part / 50) < 0.05 for part in range(50))


def test_bound_without_privacy_is_finite():
    """Two hundred right guesses: e^epsilon / (1 + e^epsilon) = 0.05^(1/200)."""
    counts = {"canaries": 200, "guesses": 200, "correct": 200, "confidence": 0.95}
    rate = 0.05 ** (1 / 200)
    assert epsilon_from_guesses(**counts, delta=0) == pytest.approx(math.log(rate / (1 - rate)))
    assert 4.0 < epsilon_from_guesses(**counts, delta=1e-5) < 4.19


@pytest.mark.parametrize("correct", [0, 90, 100, 110])
def test_chance_results_refute_nothing(correct):
    bound = epsilon_from_guesses(
        canaries=200, guesses=200, correct=correct, delta=1e-5, confidence=0.95
    )
    assert bound == 0


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_bound_holds_at_its_confidence(epsilon):
    """Randomised response is the worst case, so nearly all of the doubt is used up."""
    generator = seeded(int(10 * epsilon))
    runs, broken = 300, 0
    for _ in range(runs):
        included, answers = randomised_response(200, epsilon, generator=generator)
        right = int((answers.bool() == included).sum())
        counts = {"canaries": 200, "guesses": 200, "correct": right}
        broken += epsilon_from_guesses(**counts, delta=0, confidence=0.9) > epsilon
    assert broken / runs <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / runs)
    assert broken / runs > 0.04  # a bound that hardly ever fails would be too low


def test_best_of_several_guess_counts_holds():
    """A mechanism that tells most about a few canaries, the ones guessed first."""
    generator = seeded(3)
    runs, broken = 150, 0
    for _ in range(runs):
        included, answer = randomised_response(200, 1.0, generator=generator)
        scores = (2 * answer - 1) * torch.rand(200, generator=generator)
        broken += bound_by_guessing(scores, included, delta=0, confidence=0.9).epsilon > 1
    assert broken / runs <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / runs)


def test_bound_is_tight_with_many_canaries():
    included, scores = randomised_response(20_000, 2.0, generator=seeded())
    found = bound_by_guessing(scores, included, delta=0, confidence=0.95, shares=(1.0,))
    assert 1.9 < found.epsilon < 2
    assert (found.canaries, found.guesses) == (20_000, 20_000)


def test_few_sure_guesses_beat_many_unsure():
    included = torch.rand(500, generator=seeded()) < 0.5
    scores = torch.randn(500, generator=seeded(1))
    scores[:60] = 10 * (2.0 * included[:60] - 1)
    found = bound_by_guessing(scores, included, delta=1e-5, confidence=0.95)
    every = bound_by_guessing(scores, included, delta=1e-5, confidence=0.95, shares=(1.0,))
    assert (found.guesses, found.correct) == (50, 50)
    assert found.epsilon > every.epsilon + 1


def test_odd_canary_count_guesses_each_once():
    scores = torch.arange(5.0)
    found = bound_by_guessing(scores, scores > 2, delta=0, confidence=0.9, shares=(1.0,))
    assert (found.guesses, found.correct) == (4, 4)


def test_classical_bound_matches_formula():
    tpr = stats.binomtest(90, 100).proportion_ci(0.95, method="exact").low
    fpr = stats.binomtest(5, 100).proportion_ci(0.95, method="exact").high
    numbers = {"true_positives": 90, "members": 100, "false_positives": 5, "non_members": 100}
    found = epsilon_from_rates(**numbers, delta=0.01, confidence=0.95)
    assert found == pytest.approx(math.log((tpr - 0.01) / fpr))
    swapped = {"true_positives": 95, "members": 100, "false_positives": 10, "non_members": 100}
    assert epsilon_from_rates(**swapped, delta=0.01, confidence=0.95) == pytest.approx(found)
    useless = {"true_positives": 5, "members": 100, "false_positives": 5, "non_members": 100}
    assert epsilon_from_rates(**useless, delta=0, confidence=0.95) == 0


def test_true_positive_rate_of_members():
    others = torch.arange(1000.0)
    members = torch.tensor([989.0, 989.5, 990.0, 2000.0])
    # Ten non-members, 990 and above, may be above the threshold, which is then 989.
    assert tpr_at_fpr(members, others, fpr=0.01) == 0.75
    assert tpr_at_fpr(others, others, fpr=0.01) == 0.01
    assert tpr_at_fpr(torch.ones(5), torch.ones(1000), fpr=0.01) == 0  # ties are no finds


def test_auc_matches_reference():
    generator = seeded()
    members = torch.randint(10, (300,), generator=generator).float() + 1
    others = torch.randint(10, (200,), generator=generator).float()
    expected = stats.mannwhitneyu(members, others).statistic / (300 * 200)
    assert auc(members, others) == pytest.approx(expected)


def guess(**changed):
    given = {"scores": torch.zeros(4), "included": torch.ones(4, dtype=torch.bool)} | changed
    scores, included = given.pop("scores"), given.pop("included")
    return bound_by_guessing(scores, included, **({"delta": 0.0, "confidence": 0.9} | given))


COUNTS = {"canaries": 9, "guesses": 9, "correct": 9, "delta": 0.0, "confidence": 0.9}
RATES = {
    "true_positives": 1,
    "members": 1,
    "false_positives": 0,
    "non_members": 1,
    "delta": 0.0,
    "confidence": 0.9,
}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: epsilon_from_guesses(**COUNTS | {"guesses": 10}), "on 9 canaries"),
        (lambda: epsilon_from_guesses(**COUNTS | {"delta": 1.0}), "delta must be"),
        (lambda: epsilon_from_guesses(**COUNTS | {"confidence": 1.0}), "confidence must be"),
        (lambda: epsilon_from_rates(**RATES | {"true_positives": 2}), "more positives"),
        (lambda: epsilon_from_rates(**RATES | {"non_members": 0}), "there is no rate"),
        (lambda: guess(scores=torch.tensor([0, 1, 2, math.nan])), "not finite"),
        (lambda: guess(included=torch.ones(3, dtype=torch.bool)), "must have the same length"),
        (lambda: guess(shares=(0.0,)), "above 0 and at most 1"),
        (lambda: tpr_at_fpr(torch.ones(9), torch.ones(999), fpr=0.01), "at least 1000 non-members"),
        (lambda: tpr_at_fpr(torch.ones(0), torch.ones(1000), fpr=0.01), "no members"),
        (lambda: tpr_at_fpr(torch.ones(9), torch.ones(999), fpr=1.0), "between 0 and 1"),
        (lambda: auc(torch.ones(0), torch.ones(1)), "members and non-members"),
    ],
)
def test_unmeasurable_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
