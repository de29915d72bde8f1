"""Step rules for candidate images: Adam on the gradient or its sign, and L-BFGS."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from attacks.reconstruction.components import SCHEDULES
from attacks.reconstruction.presets import AttackSettings

Closure = Callable[[], Tensor]
"""Function that evaluates the objective and stores its gradient in the optimised tensors."""

EVALUATIONS = 20
"""Largest number of evaluations in one iteration of L-BFGS, the default of PyTorch and DLG."""

EPSILON = 1e-8
"""Added to the root of Adam's second moment, the default of PyTorch."""


class StepRule(Protocol):
    """Moves tensors that require grad towards a lower objective.

    Attributes:
        graphable: True if ``move`` never reads a value back to the host, so that it can become part
            of a CUDA graph.
    """

    graphable: bool

    def prepare(self, iteration: float) -> None:
        """Set what depends on the iteration; called before each step.

        Args:
            iteration: Iteration of the schedule, counted from 0; fractional with a time budget.
        """

    def move(self, closure: Closure) -> None:
        """Take one step.

        Args:
            closure: Function that evaluates the objective.
        """


class AdamStep:
    """Adam on the gradient of the images, on its sign (Geiping et al. 2020), or on a soft sign.

    The gradient may be smoothed, and made greyer, first. A steepest descent in a norm that counts
    differences of neighbours does this (Neuberger 1997, "Sobolev Gradients and Differential
    Equations"); Olah et al. 2017 ("Feature Visualization", section on preconditioning) use both for
    images.

    The soft sign is tanh(s g) / s with s falling from 1 to 0. It starts close to the sign and ends
    linear, as in breaching's ``modern`` attack.

    Args:
        leaves: Tensors that require grad; the first holds the images.
        attack: Settings of the attack, of which step size, schedule, sign and noise are used.
        generator: CPU generator of the Langevin noise.
    """

    graphable = True

    def __init__(
        self, leaves: Sequence[Tensor], attack: AttackSettings, *, generator: torch.Generator
    ) -> None:
        self._images = leaves[0]
        self._attack = attack
        self._generator = generator
        self._schedule = SCHEDULES.resolve(attack.schedule)
        device = self._images.device
        # On a GPU everything that changes between steps is a tensor at a fixed address, where a
        # CUDA graph finds it.
        self._adam: torch.optim.Adam | LeanAdam
        if device.type == "cuda":
            size = torch.tensor(attack.lr, device=device)
            self._adam = torch.optim.Adam(leaves, lr=size, betas=attack.betas, capturable=True)
        else:
            self._adam = LeanAdam(leaves, attack.betas)
        self._softness = torch.ones((), device=device)
        self._noise = torch.zeros_like(self._images, requires_grad=False)
        self._filter = low_pass(self._images, attack.smoothing) if attack.smoothing else None

    def prepare(self, iteration: float) -> None:
        """Set step size, softness of the sign and noise."""
        size = self._size(iteration)
        if isinstance(self._adam, LeanAdam):
            self._adam.lr = size
        else:
            self._adam.param_groups[0]["lr"].fill_(size)
        self._softness.fill_(1 - iteration / self._attack.iterations)
        if self._attack.langevin:
            noise = torch.randn(self._noise.shape, generator=self._generator)
            self._noise.copy_(self._attack.langevin * size * noise)

    def move(self, closure: Closure) -> None:
        """Take one step of Adam."""
        closure()
        self._transform_gradient()
        self._adam.step()

    def _size(self, iteration: float) -> float:
        attack = self._attack
        warm = min(1.0, (iteration + 1) / attack.warmup) if attack.warmup else 1.0
        return attack.lr * warm * self._schedule(iteration, attack.iterations)

    def _transform_gradient(self) -> None:
        """Add noise to the gradient of the images, filter it and apply the sign function."""
        gradient = self._images.grad
        if gradient is None:
            return
        if self._attack.langevin:
            gradient.add_(self._noise)
        if self._filter is not None:
            spectrum = torch.fft.rfft2(gradient) * self._filter
            gradient.copy_(torch.fft.irfft2(spectrum, s=gradient.shape[-2:]))
        if self._attack.chroma < 1:
            grey = gradient.mean(1, keepdim=True)
            gradient.sub_(grey).mul_(self._attack.chroma).add_(grey)
        if self._attack.sign == "hard":
            gradient.sign_()
        elif self._attack.sign == "soft":
            gradient.mul_(self._softness).tanh_().div_(self._softness)


class LeanAdam:
    """Adam with the bits of ``torch.optim.Adam`` on a CPU, in a third of its time for few pixels.

    Args:
        leaves: Tensors that require grad.
        betas: Decay rates of the moment estimates.

    Attributes:
        lr: Step size.
    """

    def __init__(self, leaves: Sequence[Tensor], betas: tuple[float, float]) -> None:
        self.lr = 0.0
        self._betas, self._count = betas, 0
        self._state = [(leaf, *(torch.zeros_like(leaf.detach()) for _ in betas)) for leaf in leaves]

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients of the leaves."""
        first, second = self._betas
        self._count += 1
        size = self.lr / (1 - first**self._count)
        scale = (1 - second**self._count) ** 0.5
        for leaf, mean, square in self._state:
            gradient = leaf.grad
            if gradient is None:
                continue
            mean.lerp_(gradient, 1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            leaf.addcdiv_(mean, (square.sqrt() / scale).add_(EPSILON), value=-size)


class LBFGSStep:
    """L-BFGS without a line search, as in DLG (arXiv 1906.08935).

    Args:
        leaves: Tensors that require grad.
        attack: Settings of the attack, of which the step size is used.
    """

    graphable = False

    def __init__(self, leaves: Sequence[Tensor], attack: AttackSettings) -> None:
        self._lbfgs = torch.optim.LBFGS(leaves, lr=attack.lr, max_iter=EVALUATIONS)

    def prepare(self, iteration: float) -> None:
        """Do nothing, since the step size is constant."""

    def move(self, closure: Closure) -> None:
        """Take one iteration of L-BFGS."""
        self._lbfgs.step(closure)  # type: ignore[no-untyped-call]


def low_pass(images: Tensor, exponent: float) -> Tensor:
    """Factors of the amplitudes of a real Fourier transform, 1 for the lowest frequencies.

    Args:
        images: float ``[n, channels, height, width]``, of which only the size counts.
        exponent: Power of the frequency by which an amplitude is divided.

    Returns:
        float ``[height, width // 2 + 1]``, in (0, 1].
    """
    height, width = images.shape[-2:]
    rows = torch.fft.fftfreq(height, device=images.device)
    columns = torch.fft.rfftfreq(width, device=images.device)
    frequency = (rows[:, None].square() + columns.square()).sqrt()
    lowest = 1 / max(height, width)
    factors: Tensor = frequency.clamp(min=lowest).div(lowest).pow(-exponent)
    return factors


def step_rule(
    leaves: Sequence[Tensor], attack: AttackSettings, *, generator: torch.Generator
) -> StepRule:
    """Make the step rule of an attack.

    Args:
        leaves: Tensors that require grad; the first holds the images.
        attack: Settings of the attack.
        generator: CPU generator of the Langevin noise.
    """
    if attack.optimiser == "l-bfgs":
        return LBFGSStep(leaves, attack)
    return AdamStep(leaves, attack, generator=generator)
