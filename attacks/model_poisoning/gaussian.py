"""A random change, the control of directed attacks of the same norm."""

import torch
from torch import Tensor


def gaussian(change: Tensor, *, generator: torch.Generator, scale: float | None = None) -> Tensor:
    """Draw a change from a Gaussian distribution.

    Args:
        change: Change of an honest client, float ``[d]``; only its norm counts.
        generator: CPU generator of the change.
        scale: Standard deviation of every entry, at least 0; by default the result has the L2 norm
            of the honest change.

    Returns:
        The random change, float ``[d]``.

    Raises:
        ValueError: If the scale is below 0.
    """
    if scale is not None and not scale >= 0:
        raise ValueError(f"a standard deviation of {scale} is below 0")
    drawn = torch.randn(change.shape, generator=generator, dtype=change.dtype).to(change.device)
    if scale is None:
        scale = float(change.double().norm() / drawn.double().norm())
    return scale * drawn
