"""What images are like before any gradient was seen."""

from torch import Tensor


def total_variation(images: Tensor) -> Tensor:
    """Anisotropic total variation: mean |horizontal| plus mean |vertical difference|.

    Geiping et al. 2020, section 4, and their public code.

    Args:
        images: float ``[n, channels, height, width]``.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> float(total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])))
        1.0
    """
    horizontal = images[..., :, 1:] - images[..., :, :-1]
    vertical = images[..., 1:, :] - images[..., :-1, :]
    return horizontal.abs().mean() + vertical.abs().mean()
