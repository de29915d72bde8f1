"""Defenses that change the images and labels of a batch before the network sees them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fedlab.core.schedule import ClientsText, RoundsText
from fedlab.core.settings import Settings


class DPInstaHide(Settings):
    """DP-InstaHide: k-way mixup of images and labels plus noise (Borgnia et al. 2021)."""

    name: Literal["dp-instahide"] = "dp-instahide"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    k: int = Field(default=4, ge=1)
    """Images mixed into one."""
    weights: Literal["equal", "dirichlet"] = "equal"
    """1/k each, the case that the analysis covers, or random ones, which earn no factor k."""
    alpha: float = Field(default=1.0, gt=0)
    """Concentration of Dirichlet weights, drawn for each mixture."""
    cap: float | None = Field(default=None, gt=0, le=1)
    """Largest Dirichlet weight, at least 1/k; capped weights earn the factor 1/cap."""
    noise: Literal["laplace", "gaussian"] = "laplace"
    scale: float = Field(default=16 / 255, ge=0)
    """Laplace scale or Gaussian standard deviation, on pixels in [0, 1]."""
    frozen: int | None = Field(default=None, ge=1)
    """Mix so many records once and train on them in every round, instead of mixing anew; they cost
    their epsilon once. Each is of k images drawn without replacement."""

    @model_validator(mode="after")
    def _a_cap_can_be_kept(self) -> Self:
        if self.cap is not None and self.weights == "equal":
            raise ValueError('a cap goes with weights = "dirichlet": equal weights are 1/k')
        if self.cap is not None and self.cap * self.k < 1:
            raise ValueError(f"{self.k} weights of at most {self.cap} do not sum to 1")
        return self


class FlipCrop(Settings):
    """Ordinary augmentation: a random horizontal flip, and a crop after padding with black."""

    name: Literal["flip-crop"] = "flip-crop"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    padding: int = Field(default=4, ge=0)
    """Pixels added on each side before a crop of the image's own size."""
    flip: bool = True


class Mixup(Settings):
    """Mixup of k images and their labels within the batch, with Dirichlet weights."""

    name: Literal["mixup"] = "mixup"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    k: int = Field(default=2, ge=2)
    alpha: float = Field(default=1.0, gt=0)
    """Concentration of the weights, drawn once for a batch."""


class CutMix(Settings):
    """Pastes a box of another image of the batch, and mixes labels by exact area."""

    name: Literal["cutmix"] = "cutmix"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    alpha: float = Field(default=1.0, gt=0)
    """Of the Beta(alpha, alpha) distribution of the share of the image that is kept."""
    probability: float = Field(default=0.5, gt=0, le=1)
    """Of a batch being mixed at all."""


class Cutout(Settings):
    """Masks a square of every image, at a place of its own (arXiv 1708.04552)."""

    name: Literal["cutout"] = "cutout"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    side: float = Field(default=0.5, gt=0, le=1)
    """Side of the square as a share of the image's shorter one; borders clip the square."""


class MaxUp(Settings):
    """Trains on the worst of several augmented copies of each image (arXiv 2002.09024)."""

    name: Literal["maxup"] = "maxup"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    copies: int = Field(default=4, ge=2)
    augmentation: Literal["cutout", "flip-crop"] = "cutout"
    """What makes the copies, with its own default settings."""


class AdversarialPoisoning(Settings):
    """Trains against poisons made inside every batch (arXiv 2102.13624)."""

    name: Literal["adversarial-poisoning"] = "adversarial-poisoning"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    epsilon: float = Field(default=16 / 255, gt=0, le=1)
    """Largest change of a pixel."""
    steps: int = Field(default=5, ge=1)
    """Of signed Adam on the alignment of gradients, for every batch; the paper takes 5."""
    lr: float = Field(default=0.1, gt=0)
    """Step size of the inner attack, in units of epsilon."""
    inner: Literal["alignment", "random"] = "alignment"
    """``random`` is the control: noise of the same size instead of an optimised change."""
