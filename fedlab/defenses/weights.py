"""Dirichlet weights of the images in a mixture, with an optional cap.

The cap limits how far one image can change a mixture, which a privacy guarantee requires. The
InstaHide code has a similar cap as a heuristic (arXiv 2010.02772).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlab.core.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


def dirichlet(
    count: int, k: int, *, alpha: float, generator: Generator, cap: float | None = None
) -> Tensor:
    """Draw the weights of mixtures from Dirichlet(alpha, ..., alpha), with an optional cap.

    Rejecting weights above the cap could take for ever if the cap is close to 1/k. Instead, all k
    weights of a mixture are moved towards 1/k until the largest equals the cap, which keeps their
    order and their sum. Capped mixtures therefore do not follow the Dirichlet distribution, but no
    weight ever exceeds the cap.

    Args:
        count: Number of mixtures.
        k: Number of images in a mixture, at least 1.
        alpha: Concentration, above 0; small values give nearly all the weight to one image.
        generator: CPU generator of the random draws.
        cap: Largest weight, from 1/k to 1; ``None`` for no cap.

    Returns:
        Weights, float32 ``[count, k]``, not negative, with rows that sum to 1.
    """
    # Gamma(alpha) equals Gamma(alpha + 1) U^(1/alpha) in distribution. Logarithms avoid underflow.
    shape = torch.full((count, k), alpha + 1, dtype=torch.float64)
    gamma = torch._standard_gamma(shape, generator=generator)
    uniform = 1 - torch.rand(count, k, dtype=torch.float64, generator=generator)  # never 0
    weights = torch.softmax(gamma.log() + uniform.log() / alpha, dim=1)
    if cap is not None:
        excess = weights.amax(1, keepdim=True) - 1 / k
        share = ((cap - 1 / k) / excess.clamp(min=torch.finfo(torch.float64).tiny)).clamp(0, 1)
        weights = (1 / k + share * (weights - 1 / k)).clamp(max=cap)
    return weights.float()
