"""What several restarts agree on, though each may show a thing in a slightly different place.

The registered mean of GradInversion's group consistency: Yin et al., "See through Gradients"
(arXiv 2104.07586), who register by a learned flow; shifts by whole pixels need no network.
"""

import torch
from torch import Tensor

MAX_SHIFT = 0.125
"""Farthest shift either way, as a share of the height and of the width: 4 pixels of 32."""


def consensus(restarts: Tensor) -> Tensor:
    """The mean of all restarts, each image first moved to where it fits the plain mean best.

    The shift is that of the largest circular correlation with the mean, all colours together. What
    moves in from beyond the border repeats the border. Nothing waits for the device.

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
    """Where each row ``[restarts, n, height]`` and column ``[restarts, n, width]`` comes from."""
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
