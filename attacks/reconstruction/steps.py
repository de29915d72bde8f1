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
    """Moves tensors that require grad towards a lower objective.

    Attributes:
        recordable: Whether ``move`` never looks at a value, so that a CUDA graph can hold it.
    """

    recordable: bool

    def prepare(self, iteration: float) -> None:
        """Set what depends on the time; called before each step.

        Args:
            iteration: Counted from 0; fractional where a time budget sets the pace.
        """

    def move(self, closure: Closure) -> None:
        """Take one step down the objective."""


class AdamStep:
    """Adam on the gradient of the images, on its sign (Geiping et al. 2020) or a soft sign.

    The soft sign is tanh(s g) / s with s falling from 1 to 0: it begins near the sign and ends
    linear, as in breaching's ``modern`` attack.

    Args:
        moved: Leaves that require grad; the first holds the images.
        attack: Step size, schedule, sign and noise.
        generator: CPU generator of the Langevin noise.
    """

    recordable = True

    def __init__(
        self, moved: Sequence[Tensor], attack: Attack, *, generator: torch.Generator
    ) -> None:
        self._images = moved[0]
        self._attack = attack
        self._generator = generator
        self._schedule = SCHEDULES[attack.schedule]
        device = self._images.device
        # On a GPU all that changes from step to step has its place there, so that a recorded step
        # finds it.
        on_gpu = device.type == "cuda"
        size = torch.tensor(attack.lr, device=device) if on_gpu else attack.lr
        self._adam = torch.optim.Adam(moved, lr=size, betas=attack.betas, capturable=on_gpu)
        self._softness = torch.ones((), device=device)
        self._noise = torch.zeros_like(self._images, requires_grad=False)

    def prepare(self, iteration: float) -> None:
        """See ``Step``."""
        size = self._size(iteration)
        for group in self._adam.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(size)
            else:
                group["lr"] = size
        self._softness.fill_(1 - iteration / self._attack.iterations)
        if self._attack.langevin:
            noise = torch.randn(self._noise.shape, generator=self._generator)
            self._noise.copy_(self._attack.langevin * size * noise)

    def move(self, closure: Closure) -> None:
        """See ``Step``."""
        closure()
        self._bend()
        self._adam.step()

    def _size(self, iteration: float) -> float:
        attack = self._attack
        warm = min(1.0, (iteration + 1) / attack.warmup) if attack.warmup else 1.0
        return attack.lr * warm * self._schedule(iteration, attack.iterations)

    def _bend(self) -> None:
        """Turn the gradient of the images into what Adam is to see."""
        gradient = self._images.grad
        if gradient is None:
            return
        if self._attack.langevin:
            gradient.add_(self._noise)
        if self._attack.sign == "hard":
            gradient.sign_()
        elif self._attack.sign == "soft":
            gradient.mul_(self._softness).tanh_().div_(self._softness)


class LBFGSStep:
    """L-BFGS without a line search, as in DLG (arXiv 1906.08935).

    Args:
        moved: Leaves that require grad.
        attack: Its step size.
    """

    recordable = False

    def __init__(self, moved: Sequence[Tensor], attack: Attack) -> None:
        self._lbfgs = torch.optim.LBFGS(moved, lr=attack.lr, max_iter=EVALUATIONS)

    def prepare(self, iteration: float) -> None:
        """See ``Step``; its step size is the same throughout."""

    def move(self, closure: Closure) -> None:
        """See ``Step``."""
        self._lbfgs.step(closure)  # type: ignore[no-untyped-call]


def step_of(moved: Sequence[Tensor], attack: Attack, *, generator: torch.Generator) -> Step:
    """The step rule of an attack; see the two classes for the arguments."""
    if attack.optimiser == "l-bfgs":
        return LBFGSStep(moved, attack)
    return AdamStep(moved, attack, generator=generator)
