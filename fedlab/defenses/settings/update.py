"""Defenses that change what a client sends, or who gets to see it."""

from typing import Literal

from pydantic import Field

from fedlab.schedule import ClientsText, RoundsText
from fedlab.settings import Settings


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
    """Keeps only the largest entries of the update."""

    name: Literal["pruning"] = "pruning"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    share: float = Field(default=0.9, gt=0, lt=1)
    """Of all entries that are set to 0, the smallest in magnitude."""


class Quantisation(Settings):
    """Rounds every entry of the update to a few levels."""

    name: Literal["quantisation"] = "quantisation"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    bits: int = Field(default=8, ge=1, le=16)
    """For each entry; 1 keeps the sign and the tensor's mean magnitude."""


class LeakageGate(Settings):
    """The client attacks its own update, and withholds it if its images come out.

    The decision depends on the images, so it tells something about them itself: no epsilon covers
    a round in which the gate was on.
    """

    name: Literal["leakage-gate"] = "leakage-gate"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    threshold: float = Field(default=20.0)
    """PSNR in dB at and above which an image counts as leaked."""
    preset: str = "fast"
    iterations: int = Field(default=100, ge=1)


class SecureAggregation(Settings):
    """The server sees only the sum over all clients of the round that take part (simulated)."""

    name: Literal["secure-aggregation"] = "secure-aggregation"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
