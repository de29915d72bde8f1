"""Kinds of victims with settings of their own, chosen for each attacker.

``python -m benchmarks tuning`` chose the settings on test images 100 to 107, in the same way for
both attackers; the comparison reports on images 0 to 7.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from attacks.knowledge import LocalSGD
from attacks.reconstruction import PRESETS, AttackSettings
from benchmarks.victims import Victim, large, trained, untrained, victim
from fedlab.data.images import ImageData


@dataclass(frozen=True)
class Tuned:
    """Settings of breaching, under the names of ours.

    Attributes:
        tv: Weight of total variation.
        lr: Step size.
        sign: ``hard``, ``soft`` or ``none``.
        schedule: ``step``, ``cosine`` or ``linear``.
        tv_opponents: Whether total variation counts differences of colours.
    """

    tv: float
    lr: float = 0.1
    sign: str = "hard"
    schedule: str = "step"
    tv_opponents: bool = False


PUBLISHED = Tuned(tv=1e-6)
"""Breaching's Inverting Gradients settings, with the weight for untrained networks."""


@dataclass(frozen=True)
class Family:
    """One kind of victims.

    Attributes:
        name: Description of the victims.
        network: ``convnet8``, ``resnet18``, ``trained``, or ``large`` for large images.
        width: Width of the network.
        batch: Number of images of one victim.
        tuned_on: Indices of the test images on which the settings were chosen.
        breaching: Settings of breaching.
        ours: Settings of our attack.
        local: Local training of the client; a single gradient if ``None``.
    """

    name: str
    network: str
    width: int
    batch: int
    tuned_on: tuple[int, ...]
    breaching: Tuned
    ours: AttackSettings
    local: LocalSGD | None = None

    def model(self, data: ImageData, device: torch.device) -> tuple[nn.Module, float | None]:
        """The network on a device, and its test accuracy if it was trained."""
        if self.network == "trained":
            network, accuracy = trained(data)
            return network.to(device), accuracy
        if self.network == "large":
            return large(data).to(device), None
        return untrained(self.network, data, width=self.width).to(device), None

    def victims(self, model: nn.Module, data: ImageData, places: tuple[int, ...]) -> list[Victim]:
        """One victim for each batch of the test images at these indices."""
        starts = range(0, len(places), self.batch)
        batches = [list(places[start : start + self.batch]) for start in starts]
        return [victim(model, data, batch, local=self.local) for batch in batches]


FAST = PRESETS["fast"]
SIGNED = replace(FAST, tv=1e-3, sign="hard", lr=0.3, betas=(0.9, 0.999), schedule="linear")
"""What deep residual networks want instead."""

LOCAL = LocalSGD(lr=1e-3, epochs=1, batch_size=1)
"""Four images in four local steps: breaching's own FedAvg case."""

_FOUR, _EIGHT = tuple(range(100, 104)), tuple(range(100, 108))
_LOUD = Tuned(tv=1e-4, lr=0.3, schedule="cosine", tv_opponents=True)
"""Breaching's settings that the others below change."""

NARROW = Family(
    "convnet8 of width 32",
    "convnet8",
    32,
    1,
    _FOUR,
    replace(_LOUD, lr=0.5, schedule="linear"),
    FAST,
)
WIDE = Family(
    "convnet8 of width 64",
    "convnet8",
    64,
    1,
    _FOUR,
    replace(_LOUD, lr=1.0, sign="none", schedule="linear"),
    replace(FAST, tv=1e-5, schedule="linear"),
)
BATCH = Family(
    "convnet8, batches",
    "convnet8",
    32,
    4,
    _EIGHT,
    replace(_LOUD, sign="none"),
    replace(FAST, tv=2e-4, sign="soft", lr=0.5),
)
STEPS = Family(
    "convnet8, local steps",
    "convnet8",
    32,
    4,
    _FOUR,
    replace(_LOUD, schedule="linear"),
    replace(FAST, tv=2e-4),
    LOCAL,
)
RESIDUAL = Family(
    "resnet18",
    "resnet18",
    64,
    1,
    _FOUR,
    replace(_LOUD, tv=1e-3, lr=0.5, schedule="linear"),
    SIGNED,
)
RESIDUAL_BATCH = Family(
    "resnet18, batches",
    "resnet18",
    64,
    4,
    _FOUR,
    replace(_LOUD, tv=1e-3),
    replace(SIGNED, lr=0.5),
)
TRAINED = Family(
    "trained convnet of width 32",
    "trained",
    32,
    1,
    _EIGHT,
    replace(_LOUD, tv=0.1, sign="soft", schedule="linear"),
    replace(FAST, tv=0.1, lr=0.3, schedule="linear"),
)

PHOTO = replace(RESIDUAL, name="photograph", network="large")
"""With the settings of small images on a ResNet-18: nothing was tuned on photographs."""

FAMILIES = (NARROW, WIDE, BATCH, STEPS, RESIDUAL, RESIDUAL_BATCH, TRAINED)
