"""Settings of MetaPoison: Huang et al. 2020 (arXiv 2004.00225)."""

from dataclasses import dataclass
from typing import Literal

from attacks.knowledge import LocalSGD
from attacks.poisoning.colour import Colour
from attacks.poisoning.meta_loss import LOSSES, Loss
from attacks.poisoning.pixel_levels import whole_levels


@dataclass(frozen=True)
class MetaPoisoning:
    """Settings of MetaPoison; the defaults are those of the public code.

    Attributes:
        epsilon: Largest additive change of a pixel, in pixels of [0, 1].
        colour: Limits of a colour remapping in addition to epsilon; ``None`` for no remapping.
        crafts: Number of craft steps, at least 1.
        rate: Step size of Adam in units of the bounds, above 0; 25 is 200/255 at epsilon 8/255.
        warmup: Number of craft steps in which the rate rises quadratically.
        drops: Shares of the craft steps after which the rate is divided by 10.
        signed: Pass the sign of the gradient to Adam instead of the gradient.
        unrolled: Number K of SGD steps that are unrolled, at least 1.
        first_only: See ``meta_loss``.
        every_step: See ``meta_loss``.
        loss: See ``meta_loss``.
        models: Number M of surrogates, each at another stage of training.
        epochs: Length of a surrogate's training in epochs.
        advance: Number of batches that surrogates train on between craft steps; one epoch by
            default.
        staggered: Start the surrogates at different stages of training.
        trajectory: Images that the surrogates train on: without poisons, or with them.
        lr: Learning rate of the surrogates' SGD, in training and in the unrolled steps.
        weight_decay: L2 penalty of the surrogates' SGD, in training and in the unrolled steps.
        batch_size: Images in a batch, in training and in the unrolled steps.
        poisons_per_batch: Number of poisons in an unrolled batch. The public code has a random
            number of them; more poisons take less time.
        looks: Number of unrolled batches of each surrogate in a craft step; by default as many as
            cover all poisons.

    Raises:
        ValueError: If a number is out of range.
    """

    epsilon: float = 8 / 255
    colour: Colour | None = None
    crafts: int = 61
    rate: float = 25.0
    warmup: int = 5
    drops: tuple[float, ...] = (1 / 3, 2 / 3)
    signed: bool = False
    unrolled: int = 2
    first_only: bool = True
    every_step: bool = True
    loss: Loss = "carlini-wagner"
    models: int = 24
    epochs: int = 24
    advance: int | None = None
    staggered: bool = True
    trajectory: Literal["clean", "poisoned"] = "clean"
    lr: float = 0.1
    weight_decay: float = 0.0
    batch_size: int = 125
    poisons_per_batch: int = 25
    looks: int | None = None

    def __post_init__(self) -> None:
        if whole_levels(self.epsilon) < 1 or self.epsilon > 1:
            raise ValueError(f"epsilon must be in [1/255, 1], not {self.epsilon}")
        counts = (self.crafts, self.unrolled, self.models, self.epochs, self.poisons_per_batch)
        if min(*counts, *(c for c in (self.advance, self.looks) if c is not None)) < 1:
            raise ValueError("every count of MetaPoison must be at least 1")
        if self.poisons_per_batch > self.batch_size:
            raise ValueError(
                f"{self.poisons_per_batch} poisons do not fit into a batch of {self.batch_size}"
            )
        if not self.rate > 0 or self.loss not in LOSSES:
            raise ValueError(f"the rate must be above 0 and the loss one of {', '.join(LOSSES)}")

    @property
    def local(self) -> LocalSGD:
        """Local SGD of the surrogates.

        Raises:
            ValueError: If a number is out of range.
        """
        return LocalSGD(self.lr, weight_decay=self.weight_decay, batch_size=self.batch_size)

    def rate_at(self, step: int) -> float:
        """Return the step size of a craft step, counted from 0."""
        warm = min(((step + 1) / self.warmup) ** 2, 1.0) if self.warmup else 1.0
        dropped = sum(step >= share * self.crafts for share in self.drops)
        return float(self.rate * warm / 10**dropped)
