"""The stated rules: when an image leaks, when a setting is realistic, when a poisoning succeeds.

They are here in full so that a table's words can be checked against its numbers.
"""

import math
from dataclasses import dataclass
from typing import Literal

MARGIN = 3.0
"""How many dB above chance a leak must be: half the squared error of the best trivial guess."""

SUCCEEDS = 0.5
"""What a poisoning must reach of what chance leaves open, to succeed: more often than not."""

CONSISTENT = 0.999
"""Smallest cosine between a captured update and its replay that counts as agreement. Seeded noise
is drawn again, so the two differ by float rounding alone (below 1e-5 in every test); where noise
cannot be drawn again the cosine is NaN, and nothing is concluded from it."""


@dataclass(frozen=True)
class Setting:
    """How near an attack's circumstances are to a real one.

    Attributes:
        name: ``diagnostic`` if anything made the attack easier than a real one, else
            ``realistic``.
        reasons: What made it so, in words; empty for ``realistic``.
    """

    name: Literal["diagnostic", "realistic"]
    reasons: tuple[str, ...]


def verdict(*, psnr: float, chance_psnr: float, identified: bool) -> Literal["leaks", "not shown"]:
    """``leaks`` if PSNR is at least chance + 3 dB and the image was identified.

    Anything else is ``not shown`` and never "safe": another attack may do better.

    Args:
        psnr: Of the rebuilt image, in dB; NaN is not shown.
        chance_psnr: The highest of the chance baselines, in dB.
        identified: Whether the true image is the nearest of the pool. In a pool of one it always
            is, so state the pool's size beside the verdict.

    Example:
        >>> verdict(psnr=41.0, chance_psnr=14.5, identified=True)
        'leaks'
        >>> verdict(psnr=41.0, chance_psnr=14.5, identified=False)
        'not shown'
    """
    return "leaks" if identified and psnr >= chance_psnr + MARGIN else "not shown"


def success_above_chance(rate: float, chance: float = math.nan) -> float:
    """What a poisoning reaches of what chance leaves open: ``(rate - chance) / (1 - chance)``.

    Cohen's kappa corrects agreement for chance in this way: 1 is everything, 0 is what the network
    does of itself, and less is below that. From ``SUCCEEDS`` on the poisoning succeeds. A network
    that gives the wanted label to every image has a rate and a chance of 1, which is worth 0.

    Args:
        rate: Attack success rate in [0, 1].
        chance: How often clean images get the wanted label; where it is not known, NaN, the rate
            is taken as it is.

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
    """Whether an attack's circumstances were diagnostic or realistic, and why.

    Args:
        labels_known: The attacker was given the labels.
        steps: Local steps in the payload; a single one is a plain batch gradient.
        trained: The global network had been trained for at least a round when it was sent out.
        training_mode: The client's network was in training mode.
        order_known: The attacker was told which images each local step used.

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
