"""What an attack that optimises images moves: their pixels, or the weights of a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from attacks.reconstruction.problem import Problem

if TYPE_CHECKING:
    from attacks.reconstruction.presets import AttackSettings


class Parametrisation(Protocol):
    """Images as a function of tensors that an attack optimises.

    Attributes:
        leaves: Tensors that require grad.
    """

    leaves: list[Tensor]

    def __call__(self, leaves: Sequence[Tensor]) -> Tensor:
        """Normalised images ``[n, channels, height, width]``.

        Args:
            leaves: Values of ``leaves``, these tensors themselves or others.
        """

    def confine(self) -> None:
        """Move leaves back into their valid range; called after each step."""


ParametrisationFactory = Callable[
    [Tensor, Problem, "AttackSettings", torch.Generator], Parametrisation
]
"""Function from the first images, normalised ``[n, channels, height, width]``, the problem, the
settings and a CPU generator to a parametrisation."""


class Pixels:
    """Each pixel for itself, from the first images on."""

    def __init__(
        self, first: Tensor, problem: Problem, attack: AttackSettings, generator: torch.Generator
    ) -> None:
        self.leaves = [first.clone().requires_grad_()]
        self._box = problem.pixel_range if attack.boxed else None

    def __call__(self, leaves: Sequence[Tensor]) -> Tensor:
        """The only leaf."""
        return leaves[0]

    def confine(self) -> None:
        """Clamp pixels to their valid range, if the settings say so."""
        if self._box is not None:
            with torch.no_grad():
                self.leaves[0].clamp_(*self._box)
