"""Lower bounds on the privacy loss of a mechanism with Gaussian noise, from guesses on canaries.

A mechanism is mu-GDP if telling its output with a record from that without it is no easier than
telling N(mu, 1) from N(0, 1) (Dong, Roth and Su, arXiv 1905.02383). Bounds on mu use the whole
trade-off of the two errors, and so are tighter than those of ``bounds`` on epsilon at one delta.

Epsilon follows from mu for Gaussian noise only: for other noise, such as Laplace noise, it may
exceed the true epsilon. DP-SGD with Poisson batches has heavier tails than the Gaussian with the
same epsilon at a small delta, so that its guesses are harder, and the bounds hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from attacks.privacy_audit.binomial import highest_rate, last_below
from attacks.privacy_audit.bounds import SHARES, tallies

LARGEST = 24.0
"""Largest mu that is searched; no number of canaries refutes it."""

QUANTILES = (0.05, 0.125, 0.25, 0.5, 0.75, 0.875, 0.95)
"""Quantiles of the scores that serve as thresholds of the ROC curve, chosen before the coins."""

_NORMAL = NormalDist()


@dataclass(frozen=True)
class GaussianAudit:
    """Lower bound on mu of Gaussian DP, and on epsilon if the noise is Gaussian.

    Attributes:
        epsilon: Epsilon at ``delta`` of the Gaussian mechanism with this mu.
        mu: Lower bound: the mechanism is not mu'-GDP for any mu' below it.
        confidence: Probability that the bound holds, over the coins and the mechanism's noise.
        delta: Delta of epsilon.
        guesses: Number of canaries that were guessed on.
        correct: Number of correct guesses.
    """

    epsilon: float
    mu: float
    confidence: float
    delta: float
    guesses: int
    correct: int


def bound_gaussian(
    scores: Tensor,
    included: Tensor,
    *,
    delta: float,
    confidence: float,
    shares: Sequence[float] = SHARES,
) -> GaussianAudit:
    """Bound mu from the guesses of one run, by the best of several numbers of guesses.

    The arguments are those of ``bounds.bound_by_guessing``, except that ``delta`` is above 0.

    Raises:
        ValueError: If the arguments are refused there, or ``delta`` is 0, at which Gaussian noise
            has no epsilon.
    """
    if not delta > 0:
        raise ValueError("Gaussian noise has no epsilon at a delta of 0")
    each = 1 - (1 - confidence) / len(shares)
    outcomes = [
        (mu_from_guesses(canaries=len(scores), guesses=r, correct=v, confidence=each), r, v)
        for r, v in tallies(scores, included, shares=shares)
    ]
    mu, guesses, correct = max(outcomes)
    return GaussianAudit(epsilon_of(mu, delta=delta), mu, confidence, delta, guesses, correct)


def mu_from_guesses(*, canaries: int, guesses: int, correct: int, confidence: float) -> float:
    """Return the lower bound on mu from one run.

    Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One Run" (arXiv
    2410.22235), algorithm 3. With significance s, n guesses of which v are correct, m canaries, and
    f'(x) = Phi(Phi^-1(x) - mu), it starts from r = s v/m and h = s (n - v)/m and goes through
    i = v - 1, ..., 0::

        h' = max(h, f'(r)),    r' = r + i/(n - i) (h' - h)

    A mechanism with this mu is refuted if r + h exceeds n/m at the end.

    Args:
        canaries: Number m of canaries, each included by its own fair coin.
        guesses: Number n of guesses, which does not depend on how many are correct.
        correct: Number v of correct guesses.
        confidence: Confidence of the bound, in (0, 1).

    Returns:
        The bound; 0 if nothing is refuted.

    Raises:
        ValueError: If the numbers contradict each other.

    Example:
        >>> round(mu_from_guesses(canaries=200, guesses=200, correct=200, confidence=0.95), 2)
        1.92
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses on {canaries} canaries cannot be correct")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must be between 0 and 1, not {confidence}")
    doubt = 1 - confidence

    def refuted(mu: float) -> bool:
        right = doubt * correct / canaries
        wrong = doubt * (guesses - correct) / canaries
        for i in range(correct - 1, -1, -1):
            worse = max(wrong, _shifted(right, -mu))
            right = min(1.0, right + i / (guesses - i) * (worse - wrong))
            wrong = worse
        return right + wrong > guesses / canaries

    return last_below(refuted, 0.0, LARGEST) if refuted(0.0) else 0.0


def estimate_gaussian(
    scores: Tensor, included: Tensor, *, delta: float, confidence: float
) -> GaussianAudit:
    """Estimate mu from the ROC curve of the scores.

    At each threshold, mu is at least Phi^-1(1 - FPR) - Phi^-1(FNR), here with Clopper-Pearson upper
    bounds on both rates (Nasr et al., arXiv 2302.07956). The largest over ``QUANTILES`` counts,
    each at its part of the error probability.

    It is a bound for independent records only. Canaries of one run share its noise and the other
    images, so for them it is an estimate.

    Args:
        scores: Score of each canary, float ``[m]``, higher for canaries that seem included.
        included: Coin of each canary, bool ``[m]``, with both outcomes among them.
        delta: Delta of epsilon, in (0, 1).
        confidence: Confidence of the rates, in (0, 1).

    Returns:
        The estimate; ``guesses`` and ``correct`` are those at its threshold, on all canaries.
    """
    each = 1 - (1 - confidence) / (2 * len(QUANTILES))
    members, count = int(included.sum()), len(scores)
    if not delta > 0 or not 0 < members < count:
        raise ValueError("an estimate of mu needs a delta above 0, members and non-members")
    best, correct = 0.0, max(members, count - members)
    for quantile in QUANTILES:
        called = scores > torch.quantile(scores.double(), quantile)
        missed = int((included & ~called).sum())
        alarms = int((called & ~included).sum())
        fnr = highest_rate(missed, trials=members, confidence=each)
        fpr = highest_rate(alarms, trials=count - members, confidence=each)
        if fnr + fpr < 1 and (mu := -_inverse(fpr) - _inverse(fnr)) > best:
            best, correct = mu, count - missed - alarms
    return GaussianAudit(epsilon_of(best, delta=delta), best, confidence, delta, count, correct)


def epsilon_of(mu: float, *, delta: float) -> float:
    """Return epsilon of Gaussian DP at a delta.

    It solves delta = Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2) (Balle and Wang,
    arXiv 1805.06083, theorem 8).

    Args:
        mu: Distance of the two Gaussians in standard deviations, from 0 to ``LARGEST``.
        delta: Delta, in (0, 1).

    Example:
        >>> round(epsilon_of(1.0, delta=1e-5), 3)
        4.377
    """

    def above(epsilon: float) -> bool:
        tail = math.exp(epsilon) * _normal(-epsilon / mu - mu / 2)
        return _normal(-epsilon / mu + mu / 2) - tail > delta

    if not mu or not above(0.0):
        return 0.0
    # There the first term alone is below any float64, which e^epsilon must fit as well.
    return last_below(above, 0.0, min(700.0, mu * (mu / 2 + 38)))


def _shifted(rate: float, by: float) -> float:
    return rate if rate in (0.0, 1.0) else _normal(_inverse(rate) + by)


def _inverse(rate: float) -> float:
    return _NORMAL.inv_cdf(rate)


def _normal(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2
