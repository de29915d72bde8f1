"""Lower bounds on the epsilon of a mechanism, from guesses which records took part.

Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run" (NeurIPS 2023,
arXiv 2305.08846). A bound above the accountant's epsilon means a bug in one of the two; a bound
below it, however low, proves nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.privacy_audit.binomial import (
    highest_rate,
    last_below,
    lowest_rate,
    probabilities,
)

STRIDE = 0.1
"""Step of the search for the first epsilon that is not refuted. The p-value need not be monotone,
and only the first crossing keeps the stated confidence."""

SHARES = (0.1, 0.25, 0.5, 1.0)
"""Shares of the canaries to guess on: few guesses are best where most scores are noise, all guesses
where nearly all are right."""

NON_MEMBERS_PER_FALSE_ALARM = 10
"""Smallest expected number of false alarms for which a false positive rate is measured."""


@dataclass(frozen=True)
class Audit:
    """Result of the most confident guesses on the canaries.

    Attributes:
        epsilon: Lower bound: the mechanism is not (epsilon', delta)-DP for any epsilon' below it.
        confidence: Probability that the bound holds, over the coins and the mechanism's noise.
        delta: Delta of that statement.
        canaries: Number of canaries, each included by a fair coin.
        guesses: Number of canaries that were guessed on.
        correct: Number of correct guesses.
    """

    epsilon: float
    confidence: float
    delta: float
    canaries: int
    guesses: int
    correct: int


def epsilon_from_guesses(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float
) -> float:
    """Return the lower bound on epsilon from one run (theorem 5.2).

    Every canary must be included by its own fair coin, and neighbouring data sets must differ by
    adding or removing one. The number of guesses must not depend on how many are correct.

    Args:
        canaries: Number m of canaries, guessed on or not.
        guesses: Number r of guesses.
        correct: Number v of correct guesses.
        delta: Delta of differential privacy, in [0, 1).
        confidence: Confidence of the bound, in (0, 1).

    Returns:
        The bound; 0 if nothing is refuted. It is finite even for a mechanism without any privacy,
        because all guesses may be correct by chance.

    Raises:
        ValueError: If the numbers contradict each other.

    Example:
        >>> round(
        ...     epsilon_from_guesses(
        ...         canaries=200, guesses=200, correct=200, delta=0, confidence=0.95
        ...     ),
        ...     2,
        ... )
        4.19
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses on {canaries} canaries cannot be correct")
    _check(delta, confidence)

    def refuted(epsilon: float) -> bool:
        chance = p_value(
            canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
        )
        return chance < 1 - confidence

    if not refuted(0.0):
        return 0.0
    steps = 0
    while refuted((steps + 1) * STRIDE):
        steps += 1
    return last_below(refuted, steps * STRIDE, (steps + 1) * STRIDE)


def p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Bound the probability of at least so many correct guesses under (epsilon, delta)-DP.

    With X ~ Binomial(r, e^epsilon / (1 + e^epsilon)) it is

        P[X >= v] + 2 m delta max_i P[v - i <= X < v] / i

    (arXiv 2305.08846, theorem 5.2 and appendix D). The arguments are those of
    ``epsilon_from_guesses``.
    """
    rate = 1 / (1 + math.exp(-epsilon))
    chances = probabilities(guesses, rate)
    tail = float(chances[correct:].sum())
    if not delta or not correct:
        return min(1.0, tail)
    below = chances[:correct].flip(0).cumsum(0) / torch.arange(1, correct + 1)
    return min(1.0, tail + 2 * canaries * delta * float(below.max()))


def bound_by_guessing(
    scores: Tensor,
    included: Tensor,
    *,
    delta: float,
    confidence: float,
    shares: Sequence[float] = SHARES,
) -> Audit:
    """Guess that the highest scores are included and as many of the lowest are not.

    Several numbers of guesses are tried, each at a confidence of 1 - (1 - confidence) / their
    number, so that the best of them holds at the given confidence.

    Args:
        scores: Score of each canary, float ``[m]``, higher for canaries that seem included; they
            must not depend on the coins.
        included: Coin of each canary, bool ``[m]``.
        delta: Delta of differential privacy, in [0, 1).
        confidence: Confidence of the bound, in (0, 1).
        shares: Shares of the canaries to guess on, chosen before the coins are known.

    Raises:
        ValueError: If scores are not finite or the shapes, shares or numbers do not fit.
    """
    found = tallies(scores, included, shares=shares)
    _check(delta, confidence)
    each = 1 - (1 - confidence) / len(shares)
    outcomes = []
    for guesses, correct in found:
        epsilon = epsilon_from_guesses(
            canaries=len(scores), guesses=guesses, correct=correct, delta=delta, confidence=each
        )
        outcomes.append(Audit(epsilon, confidence, delta, len(scores), guesses, correct))
    return max(outcomes, key=lambda outcome: outcome.epsilon)


def tallies(
    scores: Tensor, included: Tensor, *, shares: Sequence[float] = SHARES
) -> list[tuple[int, int]]:
    """Return the number of guesses and of correct ones for each share of the canaries.

    The arguments are those of ``bound_by_guessing``.

    Raises:
        ValueError: If scores are not finite or the shapes or shares do not fit.
    """
    if scores.shape != included.shape or scores.ndim != 1 or len(scores) < 2:
        raise ValueError(
            f"scores {list(scores.shape)} and coins {list(included.shape)} must have the same "
            "length, at least two"
        )
    if not bool(scores.isfinite().all()):
        raise ValueError("a canary's score is not finite")
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"shares of the canaries must be above 0 and at most 1, not {shares}")
    order = scores.argsort(stable=True)
    found = []
    for share in shares:
        side = max(1, int(share * len(scores)) // 2)
        out, taken = order[:side], order[len(order) - side :]
        correct = int(included[taken].sum()) + int((~included[out]).sum())
        found.append((2 * side, correct))
    return found


def epsilon_from_rates(
    *,
    true_positives: int,
    members: int,
    false_positives: int,
    non_members: int,
    delta: float,
    confidence: float,
) -> float:
    """Return the bound from independent trials: TPR <= e^epsilon FPR + delta, in both directions.

    Each trial must be a run of its own, or the records must be independent. Canaries of one run are
    not, and for them the result is only an estimate. Both rates are Clopper-Pearson bounds, each
    with half of the error probability.

    Args:
        true_positives: Number of members that are called members.
        members: Number of members, at least 1.
        false_positives: Number of non-members that are called members.
        non_members: Number of non-members, at least 1.
        delta: Delta of differential privacy, in [0, 1).
        confidence: Confidence of the bound, in (0, 1).

    Returns:
        The lower bound on epsilon, at least 0.

    Raises:
        ValueError: If the numbers do not fit each other.
    """
    if not (0 <= true_positives <= members and 0 <= false_positives <= non_members):
        raise ValueError("there cannot be more positives than members, or than non-members")
    if not (members and non_members):
        raise ValueError("without members and non-members there is no rate")
    _check(delta, confidence)
    each = 1 - (1 - confidence) / 2
    tpr = lowest_rate(true_positives, trials=members, confidence=each)
    fpr = highest_rate(false_positives, trials=non_members, confidence=each)
    ratios = ((tpr - delta) / fpr, (1 - fpr - delta) / (1 - tpr))
    return math.log(max(1.0, *ratios))


def tpr_at_fpr(members: Tensor, non_members: Tensor, *, fpr: float) -> float:
    """Return the true positive rate at a false positive rate.

    Args:
        members: Scores of members, float ``[n]``; higher means more likely a member.
        non_members: Scores of non-members, float ``[m]``, at least 10 / ``fpr`` of them.
        fpr: False positive rate, in (0, 1).

    Raises:
        ValueError: If there are too few non-members to measure such a rate, or no members.
    """
    if not 0 < fpr < 1:
        raise ValueError(f"a false positive rate must be between 0 and 1, not {fpr}")
    needed = math.ceil(NON_MEMBERS_PER_FALSE_ALARM / fpr)
    if len(non_members) < needed:
        raise ValueError(
            f"a false positive rate of {fpr:g} needs at least {needed} non-members, "
            f"but there are {len(non_members)}"
        )
    if not len(members):
        raise ValueError("there are no members to find")
    allowed = int(fpr * len(non_members))
    threshold = non_members.sort(descending=True).values[allowed]
    return float((members > threshold).double().mean())


def auc(members: Tensor, non_members: Tensor) -> float:
    """Return the area under the ROC curve; ties count half.

    Args:
        members: Scores of members, float ``[n]``, at least one.
        non_members: Scores of non-members, float ``[m]``, at least one.

    Raises:
        ValueError: If either is empty.
    """
    if not len(members) or not len(non_members):
        raise ValueError("an AUC needs members and non-members")
    ordered = non_members.sort().values
    below = torch.searchsorted(ordered, members, right=False)
    until = torch.searchsorted(ordered, members, right=True)
    return float((below + until).double().mean() / (2 * len(non_members)))


def _check(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise ValueError(f"delta must be at least 0 and below 1, not {delta}")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must be between 0 and 1, not {confidence}")
