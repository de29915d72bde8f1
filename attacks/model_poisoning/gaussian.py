"""A random change: the control against which a directed attack of the same norm is measured."""

import torch
from torch import Tensor


def gaussian(change: Tensor, *, generator: torch.Generator, scale: float | None = None) -> Tensor:
    """A change drawn from a Gaussian, which follows no aim.

    Args:
        change: ``[d]``, that of an honest client; only its size counts.
        generator: On the CPU, where it is drawn.
        scale: Standard deviation of every entry; unless given, the draw gets exactly the L2 norm
            of the honest change.

    Returns:
        ``[d]``.

    Raises:
        ValueError: If the scale is below 0.
    """
    if scale is not None and not scale >= 0:
        raise ValueError(f"a standard deviation of {scale} is below 0")
    drawn = torch.randn(change.shape, generator=generator, dtype=change.dtype).to(change.device)
    if scale is None:
        scale = float(change.double().norm() / drawn.double().norm())
    return scale * drawn
