"""PGD with a random step size: WITCHcraft (Chiang et al., arXiv 1911.07989)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from attacks.evasion.pgd import pgd
from attacks.evasion.step_sizes import Uniform


def witchcraft(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step: float,
    iterations: int,
    generator: torch.Generator,
    spread: float = 1.0,
    each: Literal["image", "pixel"] = "image",
    start: Literal["random", "clean"] = "random",
    targeted: bool = False,
) -> Tensor:
    """PGD whose step size is drawn anew for every image in every iteration.

    Sizes are uniform in (0, 2 step), so that their mean is the step size of the PGD that the attack
    is compared with, and every difference comes from the randomness. The distribution of the paper
    may be another one.

    Args:
        logits: See ``pgd``.
        pixels: See ``pgd``.
        labels: See ``pgd``.
        epsilon: See ``pgd``.
        step: Mean step size where pixels are in [0, 1].
        iterations: See ``pgd``.
        generator: See ``pgd``.
        spread: See ``Uniform``; 0 gives plain PGD.
        each: See ``Uniform``.
        start: See ``pgd``.
        targeted: See ``pgd``.

    Returns:
        See ``pgd``.

    Raises:
        ValueError: See ``pgd`` and ``Uniform``.
    """
    return pgd(
        logits,
        pixels,
        labels,
        epsilon=epsilon,
        step=step,
        iterations=iterations,
        generator=generator,
        sizes=Uniform(spread, each),
        start=start,
        targeted=targeted,
    )
