"""Result of an attack; it contains no ground truth."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.reconstruction.presets import AttackSettings


@dataclass(frozen=True)
class Reconstruction:
    """Reconstructed images.

    Attributes:
        images: float32 ``[n, channels, height, width]``, pixels in [0, 1].
        labels: int64 ``[n]`` or soft ``[n, classes]``, known or inferred.
        labels_known: True if the labels were known to the attacker.
        labels_guessed: True if the payload said nothing about the labels, so that they are the most
            probable ones.
        cost: Matching cost of the images, without priors; NaN if the method has none.
        costs: float32 ``[iterations]``, matching cost along the best restart.
        restart: Index of the best restart, counted from 0.
        seconds: Wall time of all restarts in seconds.
        attack: Settings of the attack.
        findings: Signs that the attacker's assumptions about the client are wrong, noticed without
            truth before or after the attack; whole sentences, none if it did not look.
        power: Share of simulated clients' public images, without a defense, that leak to the same
            attack, in [0, 1]; NaN if it was not measured, as without public images.
        rounds: Number of rounds whose updates of the images were attacked jointly, at least 1.
    """

    images: Tensor = field(repr=False)
    labels: Tensor
    labels_known: bool = False
    labels_guessed: bool = False
    cost: float = math.nan
    costs: Tensor = field(repr=False, default_factory=lambda: torch.zeros(0))
    restart: int = 0
    seconds: float = 0.0
    attack: AttackSettings = field(default_factory=AttackSettings)
    findings: tuple[str, ...] = ()
    power: float = math.nan
    rounds: int = 1
