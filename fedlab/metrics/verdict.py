"""Rules that decide whether an image leaks, a setting is realistic, and a poisoning succeeds.

All rules are here, so that the words of a table can be checked against its numbers.
"""

import math
from dataclasses import dataclass
from typing import Literal

MARGIN = 3.0
"""Least PSNR above chance of a leak in dB: half the squared error of the best trivial guess."""

SUCCEEDS = 0.5
"""Least value of ``success_above_chance`` for a poisoning that succeeds."""

CONSISTENT = 0.999
"""Smallest cosine between a captured update and its replay that counts as agreement. Seeded noise
is drawn again, so the two differ by float rounding alone (below 1e-5 in every test); where noise
cannot be drawn again the cosine is NaN, and nothing is concluded from it."""


@dataclass(frozen=True)
class Setting:
    """Setting of an attack.

    Attributes:
        name: ``diagnostic`` if anything made the attack easier than in reality, else ``realistic``.
        reasons: The reasons why the attack was easier than a real one; empty for ``realistic``.
    """

    name: Literal["diagnostic", "realistic"]
    reasons: tuple[str, ...]


def verdict(*, psnr: float, chance_psnr: float, identified: bool) -> Literal["leaks", "not shown"]:
    """``leaks`` if PSNR is at least chance + 3 dB and the image was identified.

    Anything else is ``not shown`` and never "safe": another attack may do better.

    Args:
        psnr: PSNR of the reconstructed image in dB; NaN is ``not shown``.
        chance_psnr: Highest of the chance baselines in dB.
        identified: True if the true image is the nearest of the pool. It always is in a pool of
            one, so state the size of the pool beside the verdict.

    Example:
        >>> verdict(psnr=41.0, chance_psnr=14.5, identified=True)
        'leaks'
        >>> verdict(psnr=41.0, chance_psnr=14.5, identified=False)
        'not shown'
    """
    return "leaks" if identified and psnr >= chance_psnr + MARGIN else "not shown"


def success_above_chance(rate: float, chance: float = math.nan) -> float:
    """Success of a poisoning corrected for chance: ``(rate - chance) / (1 - chance)``.

    Cohen's kappa corrects agreement for chance in this way: 1 is full success, 0 is chance level.
    From ``SUCCEEDS`` on the poisoning succeeds. A network that gives the wanted label to every
    image has a rate and a chance of 1, and the result is 0.

    Args:
        rate: Attack success rate in [0, 1].
        chance: Share of clean images with the wanted label, in [0, 1]; NaN if unknown, and the
            result is the rate.

    Example:
        >>> success_above_chance(0.75, 0.5), success_above_chance(1.0, 1.0)
        (0.5, 0.0)
    """
    if math.isnan(chance):
        return rate
    return (rate - chance) / (1 - chance) if chance < 1 else 0.0


def setting(
    *,
    labels_known: bool,
    steps: int,
    trained: bool,
    training_mode: bool,
    order_known: bool = False,
) -> Setting:
    """Decide whether the setting of an attack is diagnostic or realistic.

    Args:
        labels_known: True if the attacker knew the labels.
        steps: Number of local steps in the payload; one step is a plain batch gradient.
        trained: True if the global network had been trained for at least one round.
        training_mode: True if the client's network was in training mode.
        order_known: True if the attacker knew which images each local step used.

    Example:
        >>> setting(labels_known=False, steps=12, trained=True, training_mode=True).name
        'realistic'
        >>> setting(labels_known=True, steps=1, trained=True, training_mode=True).reasons
        ('labels known', 'single gradient step')
    """
    reasons = tuple(
        reason
        for reason, holds in (
            ("labels known", labels_known),
            ("single gradient step", steps <= 1),
            ("untrained network", not trained),
            ("evaluation mode", not training_mode),
            ("order of the images known", order_known),
        )
        if holds
    )
    return Setting("diagnostic" if reasons else "realistic", reasons)
