"""The optimisation loop of crafted poisons: signed steps within epsilon of each image.

Algorithm 1 of Geiping et al., "Witches' Brew" (arXiv 2009.02276), for any cost.
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
"""Cost to minimise: a function of the poisons, float32 ``[p, channels, height, width]`` in [0, 1],
and a CPU generator; it returns a scalar that is differentiable by the poisons."""

Renewal = Callable[[Tensor], Sequence[Cost]]
"""Makes new costs from the current poisons, uint8 ``[p, channels, height, width]``."""

TAIL = 8
"""Restarts are compared by their mean cost over the last eighth of the steps. These come after the
last decay of the step size, and the mean does not depend on a single augmentation."""


@dataclass(frozen=True)
class CraftSettings:
    """Settings of the optimisation; the defaults are those of Witches' Brew on CIFAR-10.

    Attributes:
        epsilon: Largest change of a pixel, in (0, 1] where pixels are in [0, 1].
        steps: Steps of each restart, at least 1; the step size falls to a tenth at 3/8, 5/8 and 7/8
            of them.
        restarts: Number of random starts, at least 1; the best result is kept.
        lr: First step size where pixels are in [0, 1], above 0. The paper's 0.1 is in normalised
            units, and CIFAR-10's standard deviation is about 0.25.
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
                f"crafting needs at least one step and one restart, not {self.steps} and "
                f"{self.restarts}"
            )
        if not self.lr > 0:
            raise ValueError(f"the step size must be above 0, not {self.lr}")


@dataclass(frozen=True)
class CraftedImages:
    """Crafted poisons and the course of their cost.

    Attributes:
        images: Images, uint8 ``[p, channels, height, width]``, within epsilon of the clean
            images.
        costs: Cost before each step, float32 ``[restarts, steps]`` on the CPU.
        kept: Number of the restart that the images come from.
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
    """Change images within epsilon to minimise a cost.

    Nothing is copied from the device before the end, so that a GPU never waits.

    Args:
        images: Images, uint8 ``[p, channels, height, width]``; they stay unchanged.
        cost: Cost to minimise. The mean of several costs is minimised; each is differentiated by
            itself, so that memory stores one graph at a time.
        settings: Largest change, steps and restarts.
        generator: CPU generator of the starts and of the costs.
        renew: Makes new costs from the current poisons, for attacks that retrain their network.
        renewals: Number of renewals in each restart, at equal distances, none at the end.

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
        # NaN is not below any other cost, so a restart that ends in NaN is never kept.
        best = torch.where(scores[-1] < least, change.detach(), best)
        least = torch.fmin(scores[-1], least)
    return CraftedImages(
        images=rounded(images, best, epsilon=settings.epsilon),
        costs=torch.stack(histories).float().cpu(),
        kept=int(torch.stack(scores).nan_to_num(nan=math.inf).argmin()),
    )


def random_perturbation(images: Tensor, *, epsilon: float, generator: torch.Generator) -> Tensor:
    """Move every pixel up or down by epsilon at random, as a control.

    It matches the largest change of a pixel that a poison may make. Its L2 norm is the largest that
    epsilon allows; that of a poison is smaller.

    Args:
        images: Images, uint8 ``[n, channels, height, width]``.
        epsilon: Change of a pixel where pixels are in [0, 1].
        generator: CPU generator of the signs.

    Returns:
        New images, uint8, clipped to the range of pixels.
    """
    signs = torch.randint(2, images.shape, generator=generator).to(images.device) * 2 - 1
    return rounded(images, signs * epsilon, epsilon=epsilon)


def start(clean: Tensor, *, epsilon: float, generator: torch.Generator) -> Tensor:
    """Draw a Gaussian change of standard deviation epsilon, clipped to epsilon, as the paper does.

    Args:
        clean: Clean images in [0, 1], float32 ``[n, channels, height, width]``.
        epsilon: Largest change of a pixel.
        generator: CPU random generator.
    """
    drawn = torch.randn(clean.shape, generator=generator).to(clean.device)
    return bounded(drawn * epsilon, clean, epsilon)


def bounded(change: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """Return the nearest change within epsilon that keeps pixels in [0, 1]."""
    return (clean + change.clamp(-epsilon, epsilon)).clamp(0, 1) - clean


def rounded(images: Tensor, change: Tensor, *, epsilon: float) -> Tensor:
    """Add a change to images and round to uint8, so that no pixel differs by more than epsilon.

    Args:
        images: Images, uint8 ``[n, channels, height, width]``.
        change: Change of the same shape where pixels are in [0, 1], float.
        epsilon: Largest change, rounded down to a multiple of 1/255.
    """
    levels = whole_levels(epsilon)
    moved = images + (change * 255).round().clamp(-levels, levels)
    return moved.clamp(0, 255).to(torch.uint8)


def pixels_of(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [0, 1]."""
    return images.float() / 255


def _slope(
    costs: Sequence[Cost], clean: Tensor, change: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the mean cost and its gradient with respect to the change."""
    value, slope = torch.zeros((), device=clean.device), torch.zeros_like(clean)
    for cost in costs:
        found = cost(clean + change, generator)
        slope += torch.autograd.grad(found, change)[0]
        value = value + found.detach() / len(costs)
    return value, slope / len(costs)


def _move(change: Tensor, sign: Tensor, size: float, adam: torch.optim.Adam | None) -> None:
    """Take one step of a given size against the sign of the gradient."""
    if adam is None:
        change.detach().sub_(sign, alpha=size)
        return
    adam.param_groups[0]["lr"] = size
    change.grad = sign
    adam.step()
