"""The formal epsilon of DP-InstaHide: mixing of k records plus Laplace noise.

Borgnia et al., "DP-InstaHide: Provably Defusing Poisoning and Backdoor Attacks with Differentially
Private Data Augmentations" (arXiv 2103.02079). The numbers hold for images given labels: mixed
labels are a function of the data and get no noise.

They do not hold for Gaussian noise, which has no pure epsilon at all (write ``None``, stated as
``none``); for noise that is clamped before it is added; or for anything else computed on the clean
images, such as BatchNorm statistics. Clipping the noisy image is post-processing and harmless.
Random mixing weights earn the factor 1/c where none can exceed c, and none without such a cap.
"""

import math
from typing import Literal

VACUOUS = 100.0
"""Above this epsilon the bound says nothing: e^100 covers any change in any event's odds."""

# Above it e^x - 1 and e^x are the same float64, and the form without e^x is used.
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
    """Epsilon of releasing mixtures of k distinct records drawn without replacement.

    A record moves a mean by at most D/k and takes part with probability k/n, so
    (amplification by sampling without replacement, neighbours differ in one record)::

        epsilon = records * log(1 + (k/n) (exp(D / (k sigma)) - 1)),   delta = 0

    Every mixture ever released counts: mixing anew in each epoch or round composes. Only this
    sampler earns the factor k/n; see ``epsilon_own_plus_partners`` for mixing each image in turn.

    Args:
        n: Records of the client, at least k.
        k: Records in a mixture.
        sigma: Scale of the Laplace noise on each coordinate, not its standard deviation.
        diameter: D, largest L1 distance of two records: the number of values of an image in [0, 1].
        records: T, how many mixtures were released.
        largest_weight: No record has a larger one in any mixture; it stands for 1/k above. ``None``
            if all are 1/k.

    Returns:
        Epsilon, infinite without noise.

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
    """Epsilon of mixing each image with k - 1 partners drawn from the rest of the shard.

    A record is certain to be in the mixtures made from it, which earn no amplification; in any
    other it is a partner with probability (k - 1)/(n - 1)::

        own_records * D/(k sigma)
            + (records - own_records) * log(1 + (k-1)/(n-1) (exp(D / (k sigma)) - 1))

    It holds for one example, with partners distinct, drawn anew for each mixture, and the image
    itself never among them.

    Args:
        n: Records of the client, at least k.
        k: Records in a mixture, the image itself included.
        sigma: Scale of the Laplace noise on each coordinate.
        diameter: Largest L1 distance of two records.
        records: How many mixtures were released.
        own_records: How many of them were made from the example itself: one for each local epoch.
        largest_weight: As for ``epsilon``.

    Returns:
        Epsilon, infinite without noise.

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
    # With k = 1 there are no partners, also where n - 1 = 0.
    partner = _amplified((k - 1) / (n - 1), certain) if k > 1 else 0.0
    return _times(own_records, certain) + _times(records - own_records, partner)


def statement(epsilon: float | None) -> Literal["formal", "vacuous", "none"]:
    """What an epsilon of this defense is worth, for the ledger's text column.

    Args:
        epsilon: ``None`` where no bound exists, as for Gaussian noise.

    Returns:
        ``formal`` up to ``VACUOUS``, ``vacuous`` above, ``none`` where there is no bound.

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
    # log(1 + share (e^certain - 1)), also where e^certain overflows or is barely above 1.
    if share == 0 or certain == math.inf:
        return certain if share else 0.0
    if certain <= _LARGE:
        return math.log1p(share * math.expm1(certain))
    return certain + math.log(share + (1 - share) * math.exp(-certain))


def _times(count: int, value: float) -> float:
    return count * value if count else 0.0  # 0 * inf would be NaN
