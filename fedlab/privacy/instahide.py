"""Formal epsilon of DP-InstaHide: mixtures of k records plus Laplace noise.

Borgnia et al., "DP-InstaHide: Provably Defusing Poisoning and Backdoor Attacks with Differentially
Private Data Augmentations" (arXiv 2103.02079). Epsilon protects images given their labels:
mixed labels are a function of the data and get no noise.

The paper reduces epsilon further, since a record is in a mixture with probability k/n only. That
does not hold here: mixtures are released with their mixed labels, and these show which classes were
mixed. An image that is alone in its class is in every mixture that shows the class.

The bound does not hold for Gaussian noise, which has no pure epsilon (the ledger then states
``none``); for noise that is clamped before it is added; or for anything else computed on the clean
images, such as BatchNorm statistics. Clipping the noisy image is post-processing and costs nothing.
Random mixing weights reduce epsilon by the factor 1/c if none can exceed c, and not at all without
such a cap.
"""

import math
from typing import Literal

VACUOUS = 100.0
"""Epsilon above which the bound is vacuous: the odds of an event may change by e^100."""


def epsilon(
    *,
    k: int,
    sigma: float,
    diameter: float,
    records: int,
    largest_weight: float | None = None,
) -> float:
    """Compute epsilon of mixtures of k distinct records, released with their mixed labels.

    One record changes a mean by at most D/k, and it may be in every mixture. For neighbours that
    differ in one image, its label being the same::

        epsilon = records * D / (k sigma),   delta = 0

    Every mixture ever released counts, so mixing anew in each epoch or round composes.

    Args:
        k: Number of records in a mixture, at least 1.
        sigma: Scale (not standard deviation) of the Laplace noise on each coordinate, at least 0.
        diameter: Largest L1 distance D of two records, at least 0: the number of values of an image
            with pixels in [0, 1].
        records: Largest number of released mixtures that one record can be in, at least 0.
        largest_weight: Largest weight of a record in any mixture, from 1/k to 1; it replaces 1/k in
            the formula. ``None`` if all weights are 1/k.

    Returns:
        Epsilon; infinite without noise.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> epsilon(k=4, sigma=0.5, diameter=1.0, records=10)
        5.0
        >>> round(epsilon(k=4, sigma=16 / 255, diameter=3072.0, records=1))
        12240
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, but is {k}")
    if not (sigma >= 0 and diameter >= 0 and records >= 0):
        raise ValueError(
            "sigma, diameter and records must not be negative, but are "
            f"{sigma}, {diameter} and {records}"
        )
    weight = largest_weight
    if weight is not None and not (weight * k >= 1 and weight <= 1):
        raise ValueError(f"the largest of {k} weights must be from 1/{k} to 1, but is {weight}")
    moved = records * diameter * (1 / k if weight is None else weight)
    if moved and not sigma:
        return math.inf
    return moved / sigma if moved else 0.0


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
