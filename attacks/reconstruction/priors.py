"""What images are like before any gradient was seen: smooth, and not too bright."""

import torch
from torch import Tensor

SMOOTHING = 1e-8
"""Under the root of the isotropic form, whose slope is infinite at a flat place."""


def total_variation(images: Tensor, *, isotropic: bool = False, opponents: bool = False) -> Tensor:
    """Total variation, the mean over pixels of how much neighbours differ.

    Anisotropic, mean |horizontal| + mean |vertical difference|: Geiping et al. 2020, section 4,
    and their public code. Isotropic, the mean length of the difference vector: Rudin, Osher and
    Fatemi 1992.

    Args:
        images: float ``[n, channels, height, width]``.
        isotropic: Whether to take the length of the difference vector.
        opponents: Also penalise the differences between colour channels (double opponents);
            without effect on one channel.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> float(total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])))
        1.0
    """
    if opponents and images.shape[1] == 3:
        images = torch.cat([images, images - images.roll(1, dims=1)], dim=1)
    horizontal = images[..., :, 1:] - images[..., :, :-1]
    vertical = images[..., 1:, :] - images[..., :-1, :]
    if not isotropic:
        return horizontal.abs().mean() + vertical.abs().mean()
    squares = horizontal[..., :-1, :].square() + vertical[..., :, :-1].square()
    return (squares + SMOOTHING).sqrt().mean()


def square_norm(images: Tensor) -> Tensor:
    """Mean square of the normalised pixels, as in GradInversion (arXiv 2104.07586)."""
    return images.square().mean()
