"""The settings of each defense as a scenario names them, by what they change."""

from typing import Annotated, get_args

from pydantic import Field

from fedlab.defenses.settings.batch import (
    AdversarialPoisoning,
    CutMix,
    Cutout,
    DPInstaHide,
    FlipCrop,
    MaxUp,
    Mixup,
)
from fedlab.defenses.settings.gradient import DPSGD, Soteria
from fedlab.defenses.settings.update import (
    ClipNoise,
    LeakageGate,
    Pruning,
    Quantisation,
    SecureAggregation,
)

__all__ = [
    "DPSGD",
    "NAMES",
    "AdversarialPoisoning",
    "ClipNoise",
    "CutMix",
    "Cutout",
    "DPInstaHide",
    "DefenseSettings",
    "FlipCrop",
    "LeakageGate",
    "MaxUp",
    "Mixup",
    "Pruning",
    "Quantisation",
    "SecureAggregation",
    "Soteria",
]

DefenseSettings = Annotated[
    DPSGD
    | DPInstaHide
    | FlipCrop
    | Mixup
    | CutMix
    | Cutout
    | MaxUp
    | AdversarialPoisoning
    | Soteria
    | ClipNoise
    | Pruning
    | Quantisation
    | LeakageGate
    | SecureAggregation,
    Field(discriminator="name"),
]
"""Every defense that a scenario can name. A new one adds its settings here."""

NAMES: tuple[str, ...] = tuple(
    kind.model_fields["name"].default for kind in get_args(get_args(DefenseSettings)[0])
)
"""What the defenses are called."""
