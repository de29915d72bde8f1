"""Rules that decide whether an image leaks, a setting is realistic, and a poisoning succeeds.

All rules are here, so that the words of a table can be checked against its numbers.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

MARGIN = 3.0
"""Least PSNR above chance of a leak in dB: half the squared error of the best trivial guess."""

SIGNIFICANT = 0.01
"""Largest p-value of a recognisable image: the first place among 100 images."""

POWERFUL = 0.5
"""Least power of an attack that may call an image ``not shown``."""

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


Grade = Literal["leaks", "recognisable", "not shown", "inconclusive"]
"""Grade of the reconstruction of one image; never "safe", since another attack may do better."""

LEAKS: Final = "leaks"
RECOGNISABLE: Final = "recognisable"
NOT_SHOWN: Final = "not shown"
INCONCLUSIVE: Final = "inconclusive"

UNSCORED: Final = "unscored"
"""In place of a grade where there is no true image to compare with."""


def grade(
    *,
    psnr: float,
    chance_psnr: float,
    nearest: bool,
    p_value: float = math.nan,
    power: float = math.nan,
) -> Grade:
    """Grade the reconstruction of one image by the first of these rules that holds.

    1. *leaks*: PSNR is at least chance + 3 dB, and the true image is the nearest of the pool.
    2. *recognisable*: the p-value is at most 0.01. In a pool of 100 images of one class the true
       image is then closer to the reconstruction than all public images.
    3. *inconclusive*: nothing was reconstructed (PSNR is NaN), there was no chance to compare with
       (chance PSNR is NaN), or the attack's power is below one half.
    4. *not shown*.

    Args:
        psnr: PSNR of the reconstruction in dB after alignment; NaN if there is none.
        chance_psnr: Highest PSNR in dB of the public guesses, each aligned alike; NaN without
            public images.
        nearest: True if the true image is the nearest of the pool to the reconstruction.
        p_value: Probability that a guess made without the update identifies the image as well; NaN
            if it was not tested.
        power: Share of surrogate victims without a defense that leak to the same attack, in
            [0, 1]; NaN if it was not measured, which changes no grade.

    Example:
        >>> grade(psnr=41.0, chance_psnr=14.5, nearest=True)
        'leaks'
        >>> grade(psnr=15.0, chance_psnr=14.5, nearest=True, p_value=0.01)
        'recognisable'
        >>> grade(psnr=12.0, chance_psnr=14.5, nearest=False, p_value=0.4, power=0.2)
        'inconclusive'
    """
    if nearest and psnr >= chance_psnr + MARGIN:
        return LEAKS
    if p_value <= SIGNIFICANT:
        return RECOGNISABLE
    if math.isnan(psnr) or math.isnan(chance_psnr) or power < POWERFUL:
        return INCONCLUSIVE
    return NOT_SHOWN


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
    trained: bool | None,
    training_mode: bool,
    order_known: bool = False,
    batch_known: bool = False,
) -> Setting:
    """Decide whether the setting of an attack is diagnostic or realistic.

    Args:
        labels_known: True if the attacker knew the labels.
        steps: Number of local steps in the payload; one step is a plain batch gradient.
        trained: True if the global network had been trained for at least one round; ``None`` if
            nobody knows.
        training_mode: True if the client's network was in training mode.
        order_known: True if the attacker knew which images each local step used.
        batch_known: True if the attacker knew in which rounds a client used the same batch.

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
            ("untrained network", trained is False),
            ("network not known to be trained", trained is None),
            ("evaluation mode", not training_mode),
            ("order of the images known", order_known),
            ("rounds of the same batch known", batch_known),
        )
        if holds
    )
    return Setting("diagnostic" if reasons else "realistic", reasons)
