"""The weights of images in a mixture, drawn from a Dirichlet distribution and capped.

A cap bounds how far one image can move a mixture, which is what a guarantee needs; the cap of the
InstaHide code is a heuristic of the same kind (arXiv 2010.02772).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlab.core.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


def dirichlet(
    count: int, k: int, *, alpha: float, generator: Generator, cap: float | None = None
) -> Tensor:
    """Weights of so many mixtures, from Dirichlet(alpha, ..., alpha).

    Weights above the cap are not drawn again, which may take for ever where the cap is close to
    1/k. All k are drawn towards 1/k instead, by the least share that brings the largest to the cap,
    so their order and their sum stay. What is above the cap follows no Dirichlet law any more; that
    no weight exceeds it always holds.

    Args:
        count: Number of mixtures.
        k: Images in a mixture.
        alpha: Concentration, above 0; small values give nearly all the weight to one image.
        generator: CPU generator.
        cap: Largest weight, at least 1/k; ``None`` for none.

    Returns:
        float32 ``[count, k]``, not negative, rows summing to 1.
    """
    # Gamma(alpha) is Gamma(alpha + 1) U^(1/alpha): in logarithms, as it may be too small to write.
    shape = torch.full((count, k), alpha + 1, dtype=torch.float64)
    gamma = torch._standard_gamma(shape, generator=generator)
    uniform = 1 - torch.rand(count, k, dtype=torch.float64, generator=generator)  # never 0
    weights = torch.softmax(gamma.log() + uniform.log() / alpha, dim=1)
    if cap is not None:
        excess = weights.amax(1, keepdim=True) - 1 / k
        share = ((cap - 1 / k) / excess.clamp(min=torch.finfo(torch.float64).tiny)).clamp(0, 1)
        weights = (1 / k + share * (weights - 1 / k)).clamp(max=cap)
    return weights.float()
