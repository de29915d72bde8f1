"""Poisons that need no brewing: wrong labels, and triggers that lead to one."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fedlab.core.settings import Settings


class LabelFlip(Settings):
    """Trains some images under a wrong label: ``C - 1 - y``, one class for another, or any."""

    attack: Literal["label-flip"] = "label-flip"
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the images concerned that get the wrong label."""
    source: int | None = Field(default=None, ge=0)
    """With ``target``: only images of this class are relabelled."""
    target: int | None = Field(default=None, ge=0)
    pairs: tuple[tuple[int, int], ...] = ()
    """Several classes at once, each with the one that it is taken for."""
    random: bool = False
    """A label drawn for every image, any but its own; nothing in particular then succeeds."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.source is None) != (self.target is None):
            raise ValueError("give both source and target, or neither")
        if (self.source is not None) + bool(self.pairs) + self.random > 1:
            raise ValueError("source and target, pairs, and random exclude each other")
        if self.source is not None and self.source == self.target:
            raise ValueError(f"source and target are both {self.source}")
        if same := [source for source, target in self.pairs if source == target]:
            raise ValueError(f"pairs takes {same[0]} for itself")
        return self


class BadNets(Settings):
    """Stamps a bright square into a corner of some images and labels them as the target."""

    attack: Literal["badnets"] = "badnets"
    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the client's images that carry the trigger."""
    target: int = Field(default=0, ge=0)
    size: int = Field(default=3, ge=1)
    """Side of the square trigger in pixels."""
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"] = "bottom-right"


class Blended(Settings):
    """Blends a fixed pattern of noise into some images and labels them as the target."""

    attack: Literal["blended"] = "blended"
    share: float = Field(default=0.5, gt=0, le=1)
    target: int = Field(default=0, ge=0)
    alpha: float = Field(default=0.2, gt=0, le=1)
    """Weight of the pattern; the image keeps the rest."""


class Sinusoidal(Settings):
    """Adds a wave along the width to some images of the target class, whose labels stay (SIG)."""

    attack: Literal["sinusoidal"] = "sinusoidal"
    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the client's images of the target class; of all its images with ``relabel``."""
    target: int = Field(default=0, ge=0)
    amplitude: float = Field(default=20 / 255, gt=0, le=1)
    """Of the wave, on pixels in [0, 1]."""
    frequency: float = Field(default=6.0, gt=0)
    """Periods across the image."""
    relabel: bool = False
    """Trigger images of every class and label them as the target instead."""


class Distributed(Settings):
    """A trigger in four parts, one for each of the colluding clients; the test shows all (DBA)."""

    attack: Literal["distributed"] = "distributed"
    share: float = Field(default=0.5, gt=0, le=1)
    target: int = Field(default=0, ge=0)
    parts: Literal["own", "all"] = "own"
    """What a client stamps: the part of its partition id modulo four, or all, for comparison."""
