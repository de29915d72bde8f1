"""Super-pixels by SLIC, and the colours of an image, both by k-means.

Achanta, Shaji, Smith, Lucchi, Fua and Susstrunk, "SLIC Superpixels Compared to State-of-the-Art
Superpixel Methods" (IEEE TPAMI 34(11), 2012).
"""

import math

import torch
from torch import Tensor

COMPACTNESS = 0.3
"""Difference in colour, with pixels in [0, 1], that weighs as much as the side of a cell."""


def slic(
    image: Tensor, count: int, *, compactness: float = COMPACTNESS, iterations: int = 10
) -> Tensor:
    """Cut an image into about ``count`` regions of similar colour.

    k-means in colour and position, each pixel among the nine cells around it. Two things differ
    from the paper: colours are compared as they are given and not in CIELAB, and pieces of a region
    are not joined to their neighbours, since a graph needs no connected regions.

    Args:
        image: float32 ``[channels, height, width]``, pixels in [0, 1].
        count: Number of cells to start from, at least 1.
        compactness: Weight of the position, above 0: the larger, the more square the regions.
        iterations: Number of steps of k-means.

    Returns:
        int64 ``[height, width]``, number of the region of each pixel, from 0 without gaps.

    Raises:
        ValueError: If a number is out of range.
    """
    if count < 1 or not compactness > 0:
        raise ValueError("super-pixels need a count of at least 1 and a compactness above 0")
    _, height, width = image.shape
    side = math.sqrt(height * width / count)
    rows, columns = (min(max(1, round(length / side)), length) for length in (height, width))
    y, x = (torch.arange(length, device=image.device) for length in (height, width))
    home_row, home_column = y * rows // height, x * columns // width
    place = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(image.dtype)
    points = torch.cat([image, place * (compactness / side)]).flatten(1).T.contiguous()
    found = (home_row.unsqueeze(1) * columns + home_column).flatten()
    for _ in range(iterations):
        centres = _means(points, found, rows * columns)
        nearest = torch.full((height * width,), torch.inf, device=image.device)
        for down in (-1, 0, 1):
            row = home_row + down
            for right in (-1, 0, 1):
                column = home_column + right
                # A cell beyond the border of the image is one within it, which is tried anyway.
                cells = row.clamp(0, rows - 1).unsqueeze(1) * columns
                cells = (cells + column.clamp(0, columns - 1)).flatten()
                distance = (points - centres[cells]).square().sum(1)
                closer = distance < nearest
                nearest = torch.where(closer, distance, nearest)
                found = torch.where(closer, cells, found)
    regions: Tensor = torch.unique(found, return_inverse=True)[1]
    return regions.view(height, width)


def colours_of(image: Tensor, count: int, *, iterations: int = 20) -> Tensor:
    """The colours that an image is best drawn with, by k-means from quantiles of its brightness.

    Args:
        image: float32 ``[channels, height, width]``.
        count: Largest number of colours, at least 1.
        iterations: Number of steps of k-means.

    Returns:
        float32 ``[colours, channels]``; fewer where the image has no more.

    Example:
        >>> colours_of(torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]), 2).flatten()
        tensor([0., 1.])
    """
    points = image.flatten(1).T.contiguous()
    order = points.mean(1).argsort(stable=True)
    starts = (torch.arange(count, device=image.device) + 0.5) / count * len(points)
    centres: Tensor = torch.unique(points[order[starts.long()]], dim=0)
    for _ in range(iterations):
        nearest = colour_costs(points, centres).argmin(1)
        means = _means(points, nearest, len(centres))
        centres = torch.where(means.isnan(), centres, means)
    return centres


def colour_costs(points: Tensor, colours: Tensor) -> Tensor:
    """Squared distance of each point ``[points, channels]`` from each colour, ``[points, l]``."""
    return torch.stack([(points - colour).square().sum(1) for colour in colours], 1)


def _means(points: Tensor, found: Tensor, count: int) -> Tensor:
    """Mean of the points of each region; NaN where it has none."""
    sums = [points.new_zeros(count).index_add_(0, found, column) for column in points.T]
    return torch.stack(sums, 1) / torch.bincount(found, minlength=count).unsqueeze(1)
