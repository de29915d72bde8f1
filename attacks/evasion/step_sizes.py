"""How far each step of a signed-gradient attack goes: always as far, or at random."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor


class StepSizes(Protocol):
    """Draws the step sizes of one iteration; called anew in each."""

    def __call__(self, step: float, shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
        """The sizes.

        Args:
            step: Their mean, in pixel units.
            shape: Of the images, ``[n, channels, height, width]``.
            generator: CPU generator of what is drawn.

        Returns:
            On the CPU, float64, of a shape that broadcasts to ``shape``.
        """


def fixed(step: float, shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """The same size for every image in every iteration, as in PGD; see ``StepSizes``."""
    return torch.full((1,) * len(shape), step, dtype=torch.float64)


@dataclass(frozen=True)
class Uniform:
    """Sizes from a uniform distribution around the mean; see ``StepSizes``.

    Attributes:
        spread: In [0, 1]: sizes lie in ``step * [1 - spread, 1 + spread]``.
        each: What has its own draw: every image, or every pixel of every image.

    Raises:
        ValueError: If the spread is not in [0, 1]: a negative step would go back.
    """

    spread: float = 1.0
    each: Literal["image", "pixel"] = "image"

    def __post_init__(self) -> None:
        """Check the spread."""
        if not 0 <= self.spread <= 1:
            raise ValueError(f"the spread of step sizes is in [0, 1], not {self.spread}")

    def __call__(self, step: float, shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
        """See ``StepSizes``."""
        ones = (1,) * (len(shape) - 1)
        drawn = tuple(shape) if self.each == "pixel" else (shape[0], *ones)
        context = 2 * torch.rand(drawn, generator=generator, dtype=torch.float64) - 1
        return step * (1 + self.spread * context)
