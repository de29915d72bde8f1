"""The loop that attacks by small changes of pixels share: signed steps in a ball around each image.

Algorithm 1 of Geiping et al., "Witches' Brew" (arXiv 2009.02276); what is lowered is up to the
attack.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from attacks.poisoning.pixel_levels import whole_levels
from attacks.reconstruction import schedules

Cost = Callable[[Tensor, torch.Generator], Tensor]
"""What is to fall: from pixels float32 ``[p, channels, height, width]`` in [0, 1], and the CPU
generator of whatever it draws, to a scalar that can be differentiated by the pixels."""

Renewal = Callable[[Tensor], Sequence[Cost]]
"""New costs, given the poisons so far, uint8 ``[p, channels, height, width]``."""

TAIL = 8
"""Restarts are compared by their mean cost over the last eighth of the steps, those after the
last decay: there the change hardly moves, and the mean is not at the mercy of one augmentation."""


@dataclass(frozen=True)
class CraftSettings:
    """How poisons are optimised; the defaults are those of Witches' Brew on CIFAR-10.

    Attributes:
        epsilon: Largest change of a pixel, where pixels are in [0, 1].
        steps: Of each restart; the step size falls to a tenth at 3/8, 5/8 and 7/8 of them.
        restarts: Random starts; the best is kept.
        lr: First step size, in pixel units. The paper's 0.1 is in normalised units, and CIFAR-10's
            standard deviation is about 0.25.
        rule: ``adam`` on the sign of the gradient, as in the paper, or ``pgd``, the sign itself.

    Raises:
        ValueError: If a number is out of range.
    """

    epsilon: float = 16 / 255
    steps: int = 250
    restarts: int = 8
    lr: float = 0.025
    rule: Literal["adam", "pgd"] = "adam"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon is in (0, 1], as pixels are, not {self.epsilon}")
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(
                f"crafting needs at least one step and one start, not {self.steps} and "
                f"{self.restarts}"
            )
        if not self.lr > 0:
            raise ValueError(f"the step size must be above 0, not {self.lr}")


@dataclass(frozen=True)
class CraftedImages:
    """Poisons, and how the search for them went.

    Attributes:
        images: uint8 ``[p, channels, height, width]``, within epsilon of the clean ones.
        costs: float32 ``[restarts, steps]`` on the CPU, before each step.
        kept: The restart that the images come from.
    """

    images: Tensor = field(repr=False)
    costs: Tensor = field(repr=False)
    kept: int


def craft(
    images: Tensor,
    cost: Cost | Sequence[Cost],
    *,
    settings: CraftSettings,
    generator: torch.Generator,
    renew: Renewal | None = None,
    renewals: int = 0,
) -> CraftedImages:
    """Change images within epsilon so that a cost falls.

    Nothing is read back from the device before the end, so a GPU is never waited for.

    Args:
        images: uint8 ``[p, channels, height, width]``; they stay as they are.
        cost: What is to fall. Of several it is the mean; each is differentiated by itself, so that
            memory holds the graph of one at a time.
        settings: Size, steps and restarts.
        generator: CPU generator of the starts, and of whatever the costs draw.
        renew: Makes new costs for the poisons so far, for attacks whose network is trained again.
        renewals: How often in each restart, at equal distances; the last is not at the end.

    Example:
        >>> grey = torch.full((1, 1, 2, 2), 128, dtype=torch.uint8)
        >>> found = craft(
        ...     grey,
        ...     lambda pixels, generator: pixels.sum(),
        ...     settings=CraftSettings(steps=20, restarts=1),
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> found.images.unique().tolist()
        [112]
    """
    clean = pixels_of(images)
    costs = [cost] if callable(cost) else list(cost)
    best, least = torch.zeros_like(clean), torch.full((), math.inf, device=clean.device)
    histories, scores = [], []
    due = {round(settings.steps * k / (renewals + 1)) for k in range(1, renewals + 1)}
    for _ in range(settings.restarts):
        terms = costs
        change = start(clean, epsilon=settings.epsilon, generator=generator).requires_grad_()
        adam = torch.optim.Adam([change]) if settings.rule == "adam" else None
        history = []
        for step in range(settings.steps):
            if renew is not None and step in due:
                terms = list(renew(rounded(images, change.detach(), epsilon=settings.epsilon)))
            value, slope = _slope(terms, clean, change, generator)
            history.append(value)
            size = settings.lr * schedules.step(step, settings.steps)
            _move(change, slope.sign_(), size, adam)
            with torch.no_grad():
                change.copy_(bounded(change, clean, settings.epsilon))
        histories.append(torch.stack(history))
        scores.append(histories[-1][-max(1, settings.steps // TAIL) :].mean())
        # A cost that is not a number is not below any other, so such a restart is never kept.
        best = torch.where(scores[-1] < least, change.detach(), best)
        least = torch.fmin(scores[-1], least)
    return CraftedImages(
        images=rounded(images, best, epsilon=settings.epsilon),
        costs=torch.stack(histories).float().cpu(),
        kept=int(torch.stack(scores).nan_to_num(nan=math.inf).argmin()),
    )


def random_perturbation(images: Tensor, *, epsilon: float, generator: torch.Generator) -> Tensor:
    """The control: every pixel moved by epsilon up or down, at random.

    No poison within epsilon is larger; one that moves fewer pixels all the way is smaller.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        epsilon: Where pixels are in [0, 1].
        generator: CPU generator of the signs.

    Returns:
        New images, uint8, clamped to what a pixel can be.
    """
    signs = torch.randint(2, images.shape, generator=generator).to(images.device) * 2 - 1
    return rounded(images, signs * epsilon, epsilon=epsilon)


def start(clean: Tensor, *, epsilon: float, generator: torch.Generator) -> Tensor:
    """A normal change of standard deviation epsilon, clamped to the ball, as the paper's code does.

    Args:
        clean: float32 ``[n, channels, height, width]`` in [0, 1].
        epsilon: Largest change.
        generator: CPU generator.
    """
    drawn = torch.randn(clean.shape, generator=generator).to(clean.device)
    return bounded(drawn * epsilon, clean, epsilon)


def bounded(change: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """The nearest change within epsilon that leaves pixels in [0, 1]."""
    return (clean + change.clamp(-epsilon, epsilon)).clamp(0, 1) - clean


def rounded(images: Tensor, change: Tensor, *, epsilon: float) -> Tensor:
    """The images with a change, as uint8 again, and no pixel further than epsilon away.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        change: float of the same shape, in pixel units.
        epsilon: Largest change; of 255 levels it allows those that fit into it whole.
    """
    levels = whole_levels(epsilon)
    moved = images + (change * 255).round().clamp(-levels, levels)
    return moved.clamp(0, 255).to(torch.uint8)


def pixels_of(images: Tensor) -> Tensor:
    """The uint8 images as float32 in [0, 1]."""
    return images.float() / 255


def _slope(
    costs: Sequence[Cost], clean: Tensor, change: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The mean cost and its gradient by the change."""
    value, slope = torch.zeros((), device=clean.device), torch.zeros_like(clean)
    for cost in costs:
        found = cost(clean + change, generator)
        slope += torch.autograd.grad(found, change)[0]
        value = value + found.detach() / len(costs)
    return value, slope / len(costs)


def _move(change: Tensor, sign: Tensor, size: float, adam: torch.optim.Adam | None) -> None:
    """One step of so much against the sign of the gradient."""
    if adam is None:
        change.detach().sub_(sign, alpha=size)
        return
    adam.param_groups[0]["lr"] = size
    change.grad = sign
    adam.step()
