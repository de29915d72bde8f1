"""Bounds on mu: the true value is not exceeded, and they are tighter than bounds on epsilon."""

import math

import numpy as np
import pytest
import torch

from attacks.privacy_audit.bounds import bound_by_guessing
from attacks.privacy_audit.gaussian import (
    bound_gaussian,
    epsilon_of,
    estimate_gaussian,
    mu_from_guesses,
)

DELTA = 1e-5


def canaries(count, mu, seed):
    """Scores N(mu, 1) of canaries that a fair coin includes, and N(0, 1) of the others."""
    draws = torch.Generator().manual_seed(seed)
    included = torch.randint(2, (count,), generator=draws).bool()
    return mu * included + torch.randn(count, generator=draws), included


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_bound_seldom_exceeds_the_true_mu(mu):
    """At 90 % confidence, at most 5 of 20 runs may exceed it: more has probability 0.011."""
    runs = [canaries(400, mu, seed) for seed in range(20)]
    found = [bound_gaussian(*run, delta=DELTA, confidence=0.9).mu for run in runs]
    assert sum(each > mu for each in found) <= 5


@pytest.mark.parametrize("count", [500, 2000])
@pytest.mark.parametrize("mu", [1.0, 2.0])
def test_gaussian_bound_is_tighter_than_steinke(count, mu):
    scores, included = canaries(count, mu, seed=1)
    settings = {"delta": DELTA, "confidence": 0.95}
    tighter = bound_gaussian(scores, included, **settings)
    looser = bound_by_guessing(scores, included, **settings)
    assert looser.epsilon < tighter.epsilon <= epsilon_of(mu, delta=DELTA)


@pytest.mark.parametrize(("guesses", "correct"), [(200, 170), (100, 90), (50, 49), (40, 40)])
def test_recursion_equals_the_published_code(guesses, correct):
    """Algorithm 3 as its authors wrote it, with arrays, for k = 2."""
    from scipy.stats import norm

    canaries, threshold = 200, 0.05

    def accepted(mu):
        wrong, right = [0.0] * (correct + 1), [0.0] * (correct + 1)
        significance = threshold * guesses / canaries
        right[correct] = significance * correct / guesses
        wrong[correct] = significance * (guesses - correct) / guesses
        for i in range(correct - 1, -1, -1):
            wrong[i] = max(wrong[i + 1], norm.cdf(norm.ppf(right[i + 1]) - mu))
            right[i] = right[i + 1] + i / (guesses - i) * (wrong[i] - wrong[i + 1])
        return right[0] + wrong[0] <= guesses / canaries

    found = mu_from_guesses(
        canaries=canaries, guesses=guesses, correct=correct, confidence=1 - threshold
    )
    assert not accepted(found - 1e-6)
    assert accepted(found + 1e-6)


def test_guessing_by_chance_bounds_nothing():
    assert mu_from_guesses(canaries=100, guesses=100, correct=50, confidence=0.95) == 0.0
    assert mu_from_guesses(canaries=100, guesses=2, correct=2, confidence=0.95) == 0.0


@pytest.mark.parametrize("mu", [0.0, 1.0, 2.0])
def test_roc_estimate_is_close_to_the_true_mu(mu):
    scores, included = canaries(20_000, mu, seed=2)
    found = estimate_gaussian(scores, included, delta=DELTA, confidence=0.95)
    assert mu - 0.15 <= found.mu <= mu


@pytest.mark.parametrize(("mu", "epsilon"), [(1.0, 4.377), (math.sqrt(10) / 2, 7.511)])
def test_epsilon_of_mu_equals_reference_values(mu, epsilon):
    assert epsilon_of(mu, delta=DELTA) == pytest.approx(epsilon, abs=5.1e-4)


def test_epsilon_of_extreme_mu():
    assert epsilon_of(0.0, delta=DELTA) == 0.0
    assert epsilon_of(1e-6, delta=DELTA) == 0.0
    # Far from 0 it is mu^2/2 and mu times the quantile of delta, which is 4.26.
    assert epsilon_of(24.0, delta=DELTA) == pytest.approx(288 + 24 * 4.26, abs=1)


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(1.0, 0.05, 20), (0.6, 0.1, 50), (2.0, 0.3, 10)]
)
def test_poisson_batches_are_harder_to_guess_than_gaussian(noise, rate, steps):
    """Below the epsilon at which they agree, DP-SGD's delta is the smaller one."""
    from scipy.stats import norm

    from fedlab.privacy.privacy_loss import delta, privacy_loss

    loss = privacy_loss(((noise, rate, steps),), scale=10.0)
    target = loss.get_epsilon_for_delta(DELTA)
    low, high = 1e-3, 10.0
    for _ in range(60):
        mu = (low + high) / 2
        low, high = (mu, high) if epsilon_of(mu, delta=DELTA) < target else (low, mu)
    eps = np.linspace(0.0, 0.95 * target, 30)
    gaussian = norm.cdf(-eps / mu + mu / 2) - np.exp(eps) * norm.cdf(-eps / mu - mu / 2)
    assert all(delta(loss, each) < most for each, most in zip(eps, gaussian, strict=True))


@pytest.mark.parametrize(
    ("count", "words"), [((10, 11, 5), "cannot be correct"), ((10, 10, 11), "cannot be correct")]
)
def test_contradictory_numbers_are_refused(count, words):
    canaries, guesses, correct = count
    with pytest.raises(ValueError, match=words):
        mu_from_guesses(canaries=canaries, guesses=guesses, correct=correct, confidence=0.9)


def test_delta_of_zero_is_refused():
    scores, included = canaries(10, 1.0, seed=0)
    with pytest.raises(ValueError, match="delta of 0"):
        bound_gaussian(scores, included, delta=0.0, confidence=0.9)
    with pytest.raises(ValueError, match="delta above 0"):
        estimate_gaussian(scores, included, delta=0.0, confidence=0.9)
