"""Certified ceilings: how often any attack can succeed on a client's releases at most.

Balle, Cherubin and Hayes, "Reconstructing Training Data with Informed Adversaries" (S&P 2022);
Hayes, Mahloujifar and Balle, "Bounding Training Data Reconstruction in DP-SGD" (NeurIPS 2023,
arXiv 2302.07225). A ceiling holds for the mechanism, under the assumptions of its epsilon: it does
not cover faults of the program or of its random numbers.
"""

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import scipy

from fedlab.privacy.accountant import LARGEST, LEAST_NOISE, MOST_STEPS, epsilon
from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.accounts import ACCOUNTS, Account, composed
from fedlab.privacy.privacy_loss import Step, delta, privacy_loss
from fedlab.privacy.release import History

Floats = npt.NDArray[np.float64]

NO_BOUND = (
    "the gdp accountant is no upper bound, so nothing is certified: set privacy.accountant to rdp, "
    "prv or pld"
)
"""Why there is no ceiling under the accountant of Gaussian DP."""

EPSILONS = math.log(1e3) * np.linspace(0.0, 1.0, 128) ** 2
"""Epsilons at which the curve of delta is taken: those below log(1/kappa) for a chance kappa from
1/1000 on, since e^epsilon kappa is 1 there. They are dense near 0, where much noise needs them; any
other choice gives a valid, looser ceiling."""


def ceiling(
    history: History,
    chance: float,
    *,
    accountant: AccountantName = "pld",
    labels_public: bool = False,
) -> float:
    """Compute the largest probability with which any attack on a client's releases succeeds.

    The attacker may know everything, all other images included, except which image of a prior the
    true one is. If nothing but the prior lets it succeed with probability kappa, and the releases
    are (epsilon, delta)-DP along the whole curve, then::

        ceiling = min over delta of  e^epsilon(delta) kappa + delta

    The curve is that of the privacy loss distribution (``pld``). Where all data take part in every
    step and the noise is Gaussian, the ceiling is exact: Phi(Phi^-1(kappa) + sqrt(sum of 1/z^2)).

    Args:
        history: Privacy history of one client: everything that the attacker may have seen.
        chance: Probability kappa of success without any release, in (0, 1]; 1/N for finding the
            true image among N that are equally likely.
        accountant: Accountant of the ledger. ``gdp`` is refused; the others do not differ here.
        labels_public: True if labels are declared public, without which DP-InstaHide certifies
            nothing.

    Returns:
        The ceiling, from ``chance`` to 1. It is 1, which says nothing, if any participation is not
        protected by one and the same built-in mechanism, or if its epsilon is infinite. A foreign
        mechanism certifies nothing, since its epsilon is a claim that nobody checked.

    Raises:
        ValueError: If ``accountant`` is ``gdp``, or the chance is out of range.

    Example:
        >>> from fedlab.privacy.release import PrivacyRelease
        >>> release = PrivacyRelease(
        ...     1, 0, "dp-sgd", noise_multiplier=1.0, sample_rate=1.0, steps=1
        ... )
        >>> round(ceiling((release,), 1 / 10), 4)
        0.3891
    """
    (found,) = ceilings(history, [chance], accountant=accountant, labels_public=labels_public)
    return float(found)


def ceilings(
    history: History,
    chances: Sequence[float] | Floats,
    *,
    accountant: AccountantName = "pld",
    labels_public: bool = False,
) -> Floats:
    """Compute the ceiling at each of several chances; see ``ceiling``.

    Returns:
        Ceilings, float64 of the shape of ``chances``.
    """
    if accountant == "gdp":
        raise ValueError(NO_BOUND)
    kappa = np.asarray(chances, dtype=float)
    if not ((kappa > 0) & (kappa <= 1)).all():
        raise ValueError(f"a chance must be above 0 and at most 1, not {chances}")
    found = [kappa] if not history else [np.ones_like(kappa)]
    for account in ACCOUNTS.values():
        allowed = labels_public or not account.needs_public_labels
        if allowed and composed(account, history).covered:
            found.append(_ceilings(account, history, kappa))
    return np.asarray(np.clip(np.minimum.reduce(found), kappa, 1.0), dtype=float)


def gaussian_ceiling(chance: Floats, mu: float) -> Floats:
    """Compute the exact ceiling under Gaussian DP: Phi(Phi^-1(chance) + mu).

    Args:
        chance: Probabilities of success without any release, in (0, 1].
        mu: Distance of the two Gaussians in standard deviations, at least 0.
    """
    return np.asarray(scipy.stats.norm.cdf(scipy.stats.norm.ppf(chance) + mu), dtype=float)


def _ceilings(account: Account, history: History, chance: Floats) -> Floats:
    own = composed(account, history)
    if account.composition == "gaussian":
        return np.ones_like(chance) if own.noiseless else _gaussian(own.steps, chance)
    pure = own.summed
    # Beyond LARGEST the exponential might overflow, and the ceiling is 1 long before.
    return math.exp(LARGEST if pure is None else min(pure, LARGEST)) * chance


def _gaussian(steps: tuple[Step, ...], chance: Floats) -> Floats:
    if any(noise < LEAST_NOISE for noise, _, _ in steps):
        return np.ones_like(chance)
    if all(rate == 1 for _, rate, _ in steps):
        return gaussian_ceiling(chance, math.sqrt(sum(n / noise**2 for noise, _, n in steps)))
    # An example that no batch contains leaves no trace, so no delta exceeds the probability that
    # some batch contains it. With very little noise that is the whole bound.
    sampled = 1 - math.prod((1 - rate) ** count for _, rate, count in steps)
    scale = epsilon(steps, accountant="rdp", delta=1e-5)
    if scale > LARGEST or sum(count for _, _, count in steps) > MOST_STEPS:
        return chance + sampled
    least = np.array([_least(steps, scale, float(kappa)) for kappa in chance.flat])
    return np.asarray(np.minimum(least.reshape(chance.shape), chance + sampled), dtype=float)


@lru_cache(maxsize=4096)  # clients share histories
def _least(steps: tuple[Step, ...], scale: float, chance: float) -> float:
    """Minimum over ``EPSILONS`` of the ceiling.

    The curve of delta is convex in e^epsilon, and so is the ceiling, whose minimum is therefore
    found without the whole curve, which takes more than ten times as long.
    """
    loss = privacy_loss(steps, scale=scale)

    @cache
    def at(place: int) -> float:
        return math.exp(EPSILONS[place]) * chance + delta(loss, EPSILONS[place])

    first, last = 0, len(EPSILONS) - 1
    while first < last:
        middle = (first + last) // 2
        if at(middle) <= at(middle + 1):
            last = middle
        else:
            first = middle + 1
    return at(first)
