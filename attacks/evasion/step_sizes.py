"""Fixed and random step sizes of signed-gradient attacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor


class StepSizes(Protocol):
    """A function that returns the step sizes of one iteration."""

    def __call__(self, step: float, shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
        """Return the step sizes.

        Args:
            step: Mean step size where pixels are in [0, 1].
            shape: Shape of the images, ``[n, channels, height, width]``.
            generator: CPU generator of random sizes.

        Returns:
            Step sizes on the CPU, float64, in a shape that broadcasts to ``shape``.
        """


def fixed(step: float, shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    """Return the same size for every image in every iteration, as in PGD; see ``StepSizes``."""
    return torch.full((1,) * len(shape), step, dtype=torch.float64)


@dataclass(frozen=True)
class Uniform:
    """Step sizes from a uniform distribution around the mean; see ``StepSizes``.

    Attributes:
        spread: Relative half-width in [0, 1]: sizes are in ``step * [1 - spread, 1 + spread]``.
        each: Draw one size for every ``image``, or for every ``pixel`` of every image.

    Raises:
        ValueError: If the spread is not in [0, 1].
    """

    spread: float = 1.0
    each: Literal["image", "pixel"] = "image"

    def __post_init__(self) -> None:
        """Check the spread."""
        if not 0 <= self.spread <= 1:
            raise ValueError(f"the spread of step sizes is in [0, 1], not {self.spread}")

    def __call__(self, step: float, shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
        """Draw the step sizes; see ``StepSizes``."""
        ones = (1,) * (len(shape) - 1)
        drawn = tuple(shape) if self.each == "pixel" else (shape[0], *ones)
        context = 2 * torch.rand(drawn, generator=generator, dtype=torch.float64) - 1
        return step * (1 + self.spread * context)
