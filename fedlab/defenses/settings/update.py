"""Defenses that change what a client sends, or who gets to see it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from attacks.reconstruction.presets import PRESETS
from fedlab.core.errors import nearest
from fedlab.core.schedule import ClientsText, RoundsText
from fedlab.core.settings import Settings


class ClipNoise(Settings):
    """Clips the whole update and adds Gaussian noise: differential privacy of the client."""

    name: Literal["clip-noise"] = "clip-noise"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    clipping_norm: float = Field(default=1.0, gt=0)
    """Largest L2 norm of the update."""
    noise_multiplier: float = Field(default=1.0, ge=0)
    """Standard deviation of the noise in units of the clipping norm."""
    budget: float | None = Field(default=None, gt=0)
    """Largest epsilon of a client's rounds under it: it declines a round that would pass it."""


class Pruning(Settings):
    """Keeps only the largest entries of each tensor of the update; no privacy guarantee."""

    name: Literal["pruning"] = "pruning"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    share: float = Field(default=0.9, gt=0, lt=1)
    """Of the entries of a tensor that are set to 0: the smallest ones, but never all."""


class Quantisation(Settings):
    """Rounds every entry of the update to a few levels; no privacy guarantee."""

    name: Literal["quantisation"] = "quantisation"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    bits: int = Field(default=8, ge=1, le=16)
    """For each entry, its sign among them; 1 keeps the sign and the tensor's mean magnitude."""


class LeakageGate(Settings):
    """The client attacks its own update, and withholds it if its images come out.

    The decision depends on the images, so it tells something about them itself: no epsilon covers
    a round in which the client looked. Updates of more images than anyone attacks pass unseen.
    """

    name: Literal["leakage-gate"] = "leakage-gate"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    threshold: float = Field(default=20.0)
    """PSNR in dB at and above which an image counts as leaked."""
    every: int = Field(default=1, ge=1)
    """Attack in the client's first participation and in every so-manieth after it."""
    preset: str = "fast"
    """Of the attack, which is given the labels and re-tuned for the other defenses."""
    iterations: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _there_is_such_an_attack(self) -> Self:
        if self.preset not in PRESETS:
            raise ValueError(f'preset "{self.preset}" is unknown; {nearest(self.preset, PRESETS)}')
        return self


class SecureAggregation(Settings):
    """The server sees only the sum over all clients of the round that take part (simulated)."""

    name: Literal["secure-aggregation"] = "secure-aggregation"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
