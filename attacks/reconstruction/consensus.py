"""Registered mean of several restarts, for the group prior.

The group consistency of GradInversion: Yin et al., "See through Gradients" (arXiv 2104.07586), who
register by a learned flow. Shifts by whole pixels need no network.
"""

import torch
from torch import Tensor

MAX_SHIFT = 0.125
"""Largest shift in either direction, as a share of height and width: 4 pixels of 32."""


def consensus(restarts: Tensor) -> Tensor:
    """Mean of all restarts after each image is shifted to fit the plain mean best.

    The shift is the one with the largest circular correlation with the mean, summed over colours.
    Pixels from beyond the border repeat the border. The computation does not wait for the device.

    Args:
        restarts: float ``[restarts, n, channels, height, width]``.

    Returns:
        float ``[n, channels, height, width]``.

    Example:
        >>> import torch
        >>> image = torch.zeros(1, 1, 16, 16)
        >>> image[..., 6:10, 5:9] = 1
        >>> found = consensus(torch.stack([image, image, image.roll(2, dims=3)]))
        >>> torch.equal(found, image)
        True
    """
    rows, columns = _places(restarts, restarts.mean(0))
    count, images, _, height, width = restarts.shape
    across = columns.view(count, images, 1, 1, width).expand_as(restarts)
    down = rows.view(count, images, 1, height, 1).expand_as(restarts)
    return restarts.gather(4, across).gather(3, down).mean(0)


def _places(restarts: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Source of each row ``[restarts, n, height]`` and column ``[restarts, n, width]``."""
    height, width = mean.shape[-2:]
    # At shift d: sum over colours and u of restart(u + d) mean(u).
    products = torch.fft.rfft2(restarts) * torch.fft.rfft2(mean).conj()
    correlation = torch.fft.irfft2(products.sum(2), s=(height, width))
    down, across = (_shifts(side, mean.device) for side in (height, width))
    near = correlation[..., down % height, :][..., across % width]
    best = near.flatten(2).argmax(2, keepdim=True)
    rows = torch.arange(height, device=mean.device) + down[best // len(across)]
    columns = torch.arange(width, device=mean.device) + across[best % len(across)]
    return rows.clamp(0, height - 1), columns.clamp(0, width - 1)


def _shifts(side: int, device: torch.device) -> Tensor:
    farthest = int(MAX_SHIFT * side)
    return torch.arange(-farthest, farthest + 1, device=device)
