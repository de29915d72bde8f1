"""A smooth remapping of an image's colours: ReColorAdv, as MetaPoison uses it.

Laidlaw and Feizi, "Functional Adversarial Attacks" (arXiv 1906.00001); Huang et al. (arXiv
2004.00225). Every pixel of one colour moves alike, so edges and shapes stay as they are.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Space = Literal["yuv", "rgb"]

YUV = ((0.299, 0.587, 0.114), (-0.147141, -0.288869, 0.43601), (0.614975, -0.514965, -0.10001))
"""Matrix from red, green and blue to Y, U and V (BT.601)."""

SPANS = {
    "rgb": ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
    # The largest U and V of colours in the RGB cube; the public code clips V at 0.5.
    "yuv": ((0.0, 1.0), (-0.43601, 0.43601), (-0.614975, 0.614975)),
}
"""Range of values that the grid covers, by channel."""


@dataclass(frozen=True)
class Colour:
    """Limits of a colour remapping, which changes images beyond the additive epsilon.

    Defaults are those of MetaPoison's public code. An image of one channel has a curve of its
    grey values instead of a grid.

    Attributes:
        resolution: Number of grid points along each channel, at least 2.
        bound: Largest displacement in each channel of the colour space, in (0, 1] where pixels are
            in [0, 1]; it adds to epsilon. Moving Y, U and V by it at once moves blue by three times
            as much.
        smoothness: Weight of ``roughness`` in the attacker's loss, at least 0.
        space: Colour space of images with three channels: ``yuv`` as in the public code (which
            calls it LUV), or ``rgb``.

    Raises:
        ValueError: If a number is out of range.
    """

    resolution: int = 10
    bound: float = 0.04
    smoothness: float = 1.0
    space: Space = "yuv"

    def __post_init__(self) -> None:
        if self.resolution < 2:
            raise ValueError(f"a colour grid needs at least 2 points, not {self.resolution}")
        if not 0 < self.bound <= 1 or not self.smoothness >= 0:
            raise ValueError("the colour bound must be in (0, 1] and smoothness at least 0")

    def identity(self, pixels: Tensor) -> Tensor:
        """Return a grid of zeros for each image, which changes nothing.

        Args:
            pixels: Images, float ``[n, channels, height, width]``.

        Returns:
            ``[n, 3, r, r, r]``, or ``[n, 1, r]`` for one channel.

        Raises:
            ValueError: If there are neither one nor three channels.
        """
        count, channels = pixels.shape[:2]
        if channels not in (1, 3):
            raise ValueError(f"colours of {channels} channels cannot be remapped, only of 1 or 3")
        return pixels.new_zeros(count, channels, *(self.resolution,) * channels)


def recolour(pixels: Tensor, grid: Tensor, *, space: Space = "yuv") -> Tensor:
    """Move the colours of each image by the grid, interpolated linearly between its points.

    f(x) = x + d(x), where d is the displacement at colour x; the result is clipped to [0, 1].

    Args:
        pixels: Images, float ``[n, channels, height, width]`` in [0, 1].
        grid: Displacements, ``[n, 3, r, r, r]`` by first, second and third channel of the space,
            or ``[n, 1, r]`` for images of one channel.
        space: Colour space, see ``Colour``.

    Returns:
        Images of the same shape, differentiable in the grid.

    Example:
        >>> import torch
        >>> grey = torch.tensor([[[[0.0, 0.25, 1.0]]]])
        >>> curve = torch.tensor([[[0.0, 0.04, 0.0]]])
        >>> [round(value, 2) for value in recolour(grey, curve).flatten().tolist()]
        [0.0, 0.27, 1.0]
    """
    if pixels.shape[1] == 1:
        across = torch.stack([2 * pixels[:, 0] - 1, torch.zeros_like(pixels[:, 0])], dim=-1)
        return (pixels + _sample(grid.unsqueeze(2), across)).clamp(0, 1)
    spans = pixels.new_tensor(SPANS[space])
    colours = _mix(pixels, YUV) if space == "yuv" else pixels
    low, high = spans[:, 0].view(1, 3, 1, 1), spans[:, 1].view(1, 3, 1, 1)
    relative = 2 * (colours - low) / (high - low) - 1
    # grid_sample takes the coordinate of the last grid axis first.
    where = relative.flip(1).permute(0, 2, 3, 1).unsqueeze(1)
    moved = _sample(grid, where).squeeze(2)
    if space == "yuv":
        back = torch.linalg.inv(torch.tensor(YUV, dtype=torch.float64)).tolist()
        moved = _mix(moved, back)
    return (pixels + moved).clamp(0, 1)


def roughness(grid: Tensor) -> Tensor:
    """Mean square slope between neighbouring points of a grid of ``recolour``, a scalar.

    This is the smoothness term of the public code.
    """
    slopes = [grid.diff(dim=axis) * grid.shape[axis] for axis in range(2, grid.ndim)]
    return torch.cat([slope.flatten() for slope in slopes]).square().mean()


def _sample(grid: Tensor, where: Tensor) -> Tensor:
    return functional.grid_sample(
        grid, where, mode="bilinear", padding_mode="border", align_corners=True
    )


def _mix(pixels: Tensor, matrix: object) -> Tensor:
    return torch.einsum("oc,nchw->nohw", pixels.new_tensor(matrix), pixels)
