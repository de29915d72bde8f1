"""Epsilon of a sequence of Gaussian mechanisms, by the accountants of Opacus and dp-accounting.

The accountants are Rényi DP (Mironov et al., arXiv 1908.10530), numerical composition of privacy
loss variables (Gopi et al., arXiv 2106.02848), privacy loss distributions (see
``fedlab.privacy.privacy_loss``), and Gaussian DP (Dong et al., arXiv 1905.02383; Bu et al.,
arXiv 1911.11607).
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.privacy_loss import Step, privacy_loss

LARGEST = 500.0
"""Largest epsilon for which PRV, PLD and Gaussian DP are computed. Opacus' search for that of
Gaussian DP ends here, and far above it PRV and PLD take minutes and gigabytes."""

LEAST_NOISE = 1e-6
"""Noise multiplier below which a step counts as one without noise: its epsilon is above 1e11, and
the formulas soon overflow."""

LEAST_RATE = 1e-12
"""Sample rate that lower ones count as, which is an upper bound, since formulas underflow there."""

MOST_STEPS = 200_000
"""Largest number of steps for which PRV and PLD are computed; they take minutes beyond."""


def epsilon(steps: tuple[Step, ...], *, accountant: AccountantName, delta: float) -> float:
    """Compute epsilon at delta of all steps together, for add-or-remove-one-example neighbours.

    The result holds for Poisson sampling at the given rate, or any sampling at rate 1, and only if
    every release on the same images is among the steps.

    ``rdp``, ``prv`` and ``pld`` are upper bounds; above ``LARGEST`` or ``MOST_STEPS``, and wherever
    ``prv`` fails, ``prv`` and ``pld`` return the bound of ``rdp``. ``gdp`` is no bound: it is the
    limit for many steps of Poisson sampling at a low rate, and may be too small.

    Args:
        steps: Noise multiplier, sample rate and number of steps of each release, in order.
        accountant: ``rdp``, ``prv`` (tighter and slower), ``pld`` (the tightest) or ``gdp``.
        delta: Delta of the guarantee, in (0, 1).

    Returns:
        Epsilon, at least 0; 0 for no steps, infinity if any step has no noise or if ``gdp`` exceeds
        ``LARGEST``.

    Raises:
        ValueError: If ``gdp`` is given steps that differ in noise or sample rate.

    Example:
        >>> round(epsilon(((1.0, 0.05, 20),), accountant="rdp", delta=1e-5), 3)
        2.481
    """
    steps = tuple((noise, max(rate, LEAST_RATE), n) for noise, rate, n in steps if n)
    if not steps:
        return 0.0
    if any(noise < LEAST_NOISE for noise, _, _ in steps):
        return math.inf
    # At a large delta Opacus' formulas return values below 0, which is a bound for any mechanism.
    return max(0.0, _epsilon(merged(steps), accountant, delta))


def merged(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Join steps of the same noise multiplier and sample rate, since their order does not count."""
    counts: dict[tuple[float, float], int] = {}
    for noise, rate, count in steps:
        counts[noise, rate] = counts.get((noise, rate), 0) + count
    return tuple((noise, rate, count) for (noise, rate), count in counts.items() if count)


@lru_cache(maxsize=4096)  # clients share histories, and PRV takes up to a second
def _epsilon(steps: tuple[Step, ...], accountant: AccountantName, delta: float) -> float:
    # Opacus imports PyTorch, which is not needed to read a scenario or a ledger's tables.
    from opacus.accountants import PRVAccountant

    if accountant == "gdp":
        return _gaussian(steps, delta)
    bound = _renyi(steps, delta)
    many = sum(count for _, _, count in steps) > MOST_STEPS
    if accountant == "rdp" or bound > LARGEST or many:
        return bound
    if accountant == "pld":
        return privacy_loss(steps, scale=bound).get_epsilon_for_delta(delta)
    counter = PRVAccountant()
    counter.history = list(steps)
    try:
        with _quiet():
            value = float(counter.get_epsilon(delta=delta))
    except RuntimeError:  # PRV raises where its grid is too coarse for so little noise
        value = math.inf
    return value if math.isfinite(value) else bound


def _renyi(steps: tuple[Step, ...], delta: float) -> float:
    """Epsilon by Rényi DP, the same number as that of Opacus' ``RDPAccountant``."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis import rdp

    spent = sum(_divergences(noise, rate) * count for noise, rate, count in steps)
    with _quiet():
        value, _ = rdp.get_privacy_spent(
            orders=RDPAccountant.DEFAULT_ALPHAS, rdp=spent, delta=delta
        )
    return float(value)


@lru_cache(maxsize=1024)  # takes 0.2 s, and of a client's rounds only the number of steps differs
def _divergences(noise: float, rate: float) -> NDArray[np.float64]:
    """Rényi divergences of one step at the orders of Opacus."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis import rdp

    with _quiet():
        found: NDArray[np.float64] = rdp.compute_rdp(
            q=rate, noise_multiplier=noise, steps=1, orders=RDPAccountant.DEFAULT_ALPHAS
        )
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of Opacus that do not concern the validity of a bound."""
    with warnings.catch_warnings():
        # An order at the end of the list is still a valid, if looser, bound.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        # At rate 1 PRV computes log(1 - q) = -inf, which it compares correctly. With very little
        # noise its numbers overflow, and the result is not finite.
        warnings.filterwarnings("ignore", message=".* encountered in", category=RuntimeWarning)
        yield


def _gaussian(steps: tuple[Step, ...], delta: float) -> float:
    """Epsilon by Opacus' formulas of Gaussian DP; infinite where its search would fail."""
    from opacus.accountants.analysis import gdp

    if len({(noise, rate) for noise, rate, _ in steps}) > 1:
        raise ValueError(
            "the gdp accountant counts steps of one noise multiplier and one sample rate only, and "
            "these differ: set privacy.accountant to rdp, prv or pld"
        )
    noise, rate, _ = steps[0]
    if noise**-2 >= LARGEST:  # exp(noise**-2) in the formula for mu soon overflows
        return math.inf
    total = sum(count for _, _, count in steps)
    mu = float(gdp.compute_mu_poisson(steps=total, noise_multiplier=noise, sample_rate=rate))
    if mu == 0 or gdp.delta_eps_mu(eps=0.0, mu=mu) <= delta:
        return 0.0
    if gdp.delta_eps_mu(eps=LARGEST, mu=mu) >= delta:
        return math.inf
    return float(gdp.eps_from_mu(mu=mu, delta=delta))
