"""How the candidate images move: Adam on a gradient or its sign, or L-BFGS, and the box."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from attacks.reconstruction.presets import Attack
from attacks.reconstruction.schedules import SCHEDULES

Closure = Callable[[], Tensor]
"""Computes the objective anew and leaves its gradient in the moved tensors."""

EVALUATIONS = 20
"""Most evaluations in one iteration of L-BFGS, PyTorch's and DLG's default."""


class Step(Protocol):
    """Moves tensors that require grad towards a lower objective."""

    def __call__(self, closure: Closure, iteration: float) -> None:
        """Take one step.

        Args:
            closure: The objective.
            iteration: Counted from 0; fractional where a time budget sets the pace.
        """


class AdamStep:
    """Adam on the gradient of the images, on its sign (Geiping et al. 2020) or a soft sign.

    The soft sign is tanh(s g) / s with s falling from 1 to 0: it begins near the sign and ends
    linear, as in breaching's ``modern`` attack.

    Args:
        moved: Leaves that require grad; the first holds the images.
        attack: Step size, schedule, sign and noise.
        generator: CPU generator of the Langevin noise.
    """

    def __init__(
        self, moved: Sequence[Tensor], attack: Attack, *, generator: torch.Generator
    ) -> None:
        self._images = moved[0]
        self._attack = attack
        self._generator = generator
        self._schedule = SCHEDULES[attack.schedule]
        self._adam = torch.optim.Adam(moved, lr=attack.lr, betas=attack.betas)

    def __call__(self, closure: Closure, iteration: float) -> None:
        """See ``Step``."""
        closure()
        size = self._size(iteration)
        self._bend(iteration)
        for group in self._adam.param_groups:
            group["lr"] = size
        self._adam.step()

    def _size(self, iteration: float) -> float:
        attack = self._attack
        warm = min(1.0, (iteration + 1) / attack.warmup) if attack.warmup else 1.0
        return attack.lr * warm * self._schedule(iteration, attack.iterations)

    def _bend(self, iteration: float) -> None:
        """Turn the gradient of the images into what Adam is to see."""
        gradient = self._images.grad
        if gradient is None:
            return
        if self._attack.langevin:
            noise = torch.randn(gradient.shape, generator=self._generator)
            size = self._attack.langevin * self._size(iteration)
            gradient.add_(noise.to(gradient.device), alpha=size)
        if self._attack.sign == "hard":
            gradient.sign_()
        elif self._attack.sign == "soft":
            softness = 1 - iteration / self._attack.iterations
            gradient.mul_(softness).tanh_().div_(softness)


class LBFGSStep:
    """L-BFGS without a line search, as in DLG (arXiv 1906.08935).

    Args:
        moved: Leaves that require grad.
        attack: Its step size.
    """

    def __init__(self, moved: Sequence[Tensor], attack: Attack) -> None:
        self._lbfgs = torch.optim.LBFGS(moved, lr=attack.lr, max_iter=EVALUATIONS)

    def __call__(self, closure: Closure, iteration: float) -> None:
        """See ``Step``."""
        self._lbfgs.step(closure)  # type: ignore[no-untyped-call]


def step_of(moved: Sequence[Tensor], attack: Attack, *, generator: torch.Generator) -> Step:
    """The step rule of an attack; see the two classes for the arguments."""
    if attack.optimiser == "l-bfgs":
        return LBFGSStep(moved, attack)
    return AdamStep(moved, attack, generator=generator)
