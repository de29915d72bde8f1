"""Formal epsilon of DP-InstaHide: mixtures of k records plus Laplace noise.

Borgnia et al., "DP-InstaHide: Provably Defusing Poisoning and Backdoor Attacks with Differentially
Private Data Augmentations" (arXiv 2103.02079). Epsilon protects images given their labels:
mixed labels are a function of the data and get no noise.

It does not hold for Gaussian noise, which has no pure epsilon (the ledger then states ``none``);
for noise that is clamped before it is added; or for anything else computed on the clean images,
such as BatchNorm statistics. Clipping the noisy image is post-processing and costs nothing. Random
mixing weights reduce epsilon by the factor 1/c if none can exceed c, and not at all without such a
cap.
"""

import math
from typing import Literal

VACUOUS = 100.0
"""Epsilon above which the bound is vacuous: the odds of an event may change by e^100."""

# Above this value e^x - 1 and e^x are the same float64, and the form without e^x is used.
_LARGE = 40.0


def epsilon(
    *,
    n: int,
    k: int,
    sigma: float,
    diameter: float,
    records: int,
    largest_weight: float | None = None,
) -> float:
    """Compute epsilon of mixtures of k distinct records drawn without replacement.

    One record changes a mean by at most D/k and is in a mixture with probability k/n. By
    amplification by sampling without replacement, for neighbours that differ in one record::

        epsilon = records * log(1 + (k/n) (exp(D / (k sigma)) - 1)),   delta = 0

    Every mixture ever released counts, so mixing anew in each epoch or round composes. Only this
    sampler has the factor k/n; see ``epsilon_own_plus_partners`` for mixing each image in turn.

    Args:
        n: Number of records of the client, at least k.
        k: Number of records in a mixture, at least 1.
        sigma: Scale (not standard deviation) of the Laplace noise on each coordinate, at least 0.
        diameter: Largest L1 distance D of two records, at least 0: the number of values of an image
            with pixels in [0, 1].
        records: Number of mixtures released, at least 0.
        largest_weight: Largest weight of a record in any mixture, from 1/k to 1; it replaces 1/k in
            the formula. ``None`` if all weights are 1/k.

    Returns:
        Epsilon; infinite without noise.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> round(epsilon(n=50_000, k=4, sigma=0.125, diameter=1.0, records=50_000), 1)
        25.5
        >>> round(epsilon(n=50_000, k=4, sigma=16 / 255, diameter=3072.0, records=1))
        12231
    """
    _check(n=n, k=k, sigma=sigma, diameter=diameter, records=records, weight=largest_weight)
    return _times(records, _amplified(k / n, _per_record(k, sigma, diameter, largest_weight)))


def epsilon_own_plus_partners(
    *,
    n: int,
    k: int,
    sigma: float,
    diameter: float,
    records: int,
    own_records: int,
    largest_weight: float | None = None,
) -> float:
    """Compute epsilon of mixing each image with k - 1 partners from the rest of the shard.

    A record is certainly in the mixtures made from it, which have no amplification. It is a partner
    in any other mixture with probability (k - 1)/(n - 1)::

        own_records * D/(k sigma)
            + (records - own_records) * log(1 + (k-1)/(n-1) (exp(D / (k sigma)) - 1))

    It holds for one example, if partners are distinct, are drawn anew for each mixture, and never
    include the image itself.

    Args:
        n: Number of records of the client, at least k.
        k: Number of records in a mixture, the image itself included, at least 1.
        sigma: Scale (not standard deviation) of the Laplace noise on each coordinate, at least 0.
        diameter: Largest L1 distance of two records, at least 0.
        records: Number of mixtures released, at least 0.
        own_records: Number of mixtures made from one example itself, one per local epoch; from 0 to
            ``records``.
        largest_weight: Largest weight of a record in any mixture, from 1/k to 1; ``None`` if all
            weights are 1/k.

    Returns:
        Epsilon; infinite without noise.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> epsilon_own_plus_partners(
        ...     n=10, k=1, sigma=0.5, diameter=1.0, records=10, own_records=1
        ... )
        2.0
    """
    _check(n=n, k=k, sigma=sigma, diameter=diameter, records=records, weight=largest_weight)
    if not 0 <= own_records <= records:
        raise ValueError(f"own_records must be from 0 to {records} records, but is {own_records}")
    certain = _per_record(k, sigma, diameter, largest_weight)
    # With k = 1 there are no partners; n - 1 may then be 0.
    partner = _amplified((k - 1) / (n - 1), certain) if k > 1 else 0.0
    return _times(own_records, certain) + _times(records - own_records, partner)


def statement(epsilon: float | None) -> Literal["formal", "vacuous", "none"]:
    """Classify an epsilon for the ledger's column ``statement``.

    Args:
        epsilon: Epsilon of a release; ``None`` if no bound exists, as for Gaussian noise.

    Returns:
        ``formal`` up to ``VACUOUS``, ``vacuous`` above it, ``none`` if there is no bound.

    Example:
        >>> statement(12231.0)
        'vacuous'
    """
    if epsilon is None:
        return "none"
    return "formal" if epsilon <= VACUOUS else "vacuous"


def _check(
    *, n: int, k: int, sigma: float, diameter: float, records: int, weight: float | None
) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k must be from 1 to the {n} records of the client, but is {k}")
    if not (sigma >= 0 and diameter >= 0 and records >= 0):
        raise ValueError(
            "sigma, diameter and records must not be negative, but are "
            f"{sigma}, {diameter} and {records}"
        )
    if weight is not None and not (weight * k >= 1 and weight <= 1):
        raise ValueError(f"the largest of {k} weights must be from 1/{k} to 1, but is {weight}")


def _per_record(k: int, sigma: float, diameter: float, weight: float | None) -> float:
    if diameter == 0:
        return 0.0
    if not sigma:
        return math.inf
    return diameter / (k * sigma) if weight is None else weight * diameter / sigma


def _amplified(share: float, certain: float) -> float:
    # Computes log(1 + share (e^certain - 1)) without overflow, and precisely for small certain.
    if share == 0 or certain == math.inf:
        return certain if share else 0.0
    if certain <= _LARGE:
        return math.log1p(share * math.expm1(certain))
    return certain + math.log(share + (1 - share) * math.exp(-certain))


def _times(count: int, value: float) -> float:
    return count * value if count else 0.0  # 0 * inf would be NaN
