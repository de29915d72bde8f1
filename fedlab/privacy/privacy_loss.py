"""Privacy loss distributions of Gaussian mechanisms, composed numerically by dp-accounting.

Koskela, Jälkö and Honkela (arXiv 1906.03049); Doroshenko, Ghazi, Kamath, Kumar and Manurangsi,
"Connect the Dots" (arXiv 2207.04380). Every epsilon and delta of a distribution is an upper bound.
"""

import math
from functools import lru_cache
from typing import Any, Protocol

Step = tuple[float, float, int]
"""Noise multiplier, sample rate and number of steps, as in the history of Opacus."""

FINEST, COARSEST = 1e-5, 1e-3
"""Least and greatest spacing of the grid of privacy losses where epsilon is of order 1, before it
is rounded down to a power of two. With these, epsilon is less than 0.1 % above that of a grid ten
times finer."""

POINTS = 50_000
"""Number of grid points up to an epsilon, half of what there may be at most: more of them cost
seconds and do not change epsilon."""

PER_DEVIATION = 25
"""Grid points within one standard deviation of the loss of a single step."""


class PrivacyLoss(Protocol):
    """The part of dp-accounting's ``PrivacyLossDistribution`` that is used here."""

    def get_delta_for_epsilon(self, epsilon: float) -> float:
        """Return delta at an epsilon."""

    def get_epsilon_for_delta(self, delta: float) -> float:
        """Return epsilon at a delta."""


@lru_cache(maxsize=4)  # of one client in a row; each takes up to some megabytes
def privacy_loss(steps: tuple[Step, ...], *, scale: float) -> PrivacyLoss:
    """Compose the privacy loss of all steps, for one example added or removed.

    Args:
        steps: Steps with noise, at least one.
        scale: A rough upper bound on epsilon, which sets the spacing of the grid. It changes the
            cost and the tightness, never the validity.
    """
    least = min(_deviation(noise, rate) for noise, rate, _ in steps)
    interval = max(scale / POINTS, FINEST, min(least / PER_DEVIATION, COARSEST))
    # A power of two, so that the losses of single steps are those of the round before.
    interval = 2.0 ** math.floor(math.log2(interval))
    first, *others = (_composed(*step, interval) for step in steps)
    for other in others:
        first = first.compose(other)
    found: PrivacyLoss = first
    return found


def delta(loss: PrivacyLoss, epsilon: float) -> float:
    """Return delta at an epsilon, in [0, 1]."""
    return min(max(float(loss.get_delta_for_epsilon(float(epsilon))), 0.0), 1.0)


@lru_cache(maxsize=4)
def _composed(noise: float, rate: float, count: int, interval: float) -> Any:
    one = _single(noise, rate, interval)
    return one.self_compose(count) if count > 1 else one


@lru_cache(maxsize=64)
def _single(noise: float, rate: float, interval: float) -> Any:
    # The import takes a second and is not needed to read a scenario or a ledger's tables.
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=interval
    )


def _deviation(noise: float, rate: float) -> float:
    """Standard deviation of the loss of one step, to first order in the sample rate."""
    variance = noise**-2
    return rate * math.sqrt(math.expm1(min(variance, 500.0)))
