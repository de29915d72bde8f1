"""Regions by greedy merging, which starts from pixels.

Koepfler, Lopez and Morel, "A Multiscale Algorithm for Image Segmentation by Variational Method"
(SIAM Journal on Numerical Analysis 31(1), 1994). It stands in for Cut-Pursuit, which splits.
"""

import torch
from torch import Tensor

from attacks.graphs.regions import grid_graph, joined

SHARE = 10
"""Of so many regions one may merge in a round: a photograph takes dozens of rounds, and one pair
after the other would take hundreds of thousands. With 4, regions are up to half as far again from
their means as one after the other."""


def merge_regions(image: Tensor, count: int, *, smoothness: float = 0.0) -> Tensor:
    """Merge touching regions whose merging costs least, until ``count`` are left.

    Regions u and v of areas a and mean colours c cost ``a_u a_v / (a_u + a_v) |c_u - c_v|^2 -
    smoothness * w_uv``, by which the piecewise constant Mumford-Shah energy rises. In a round the
    cheapest border of each region is a candidate, and the cheapest candidates are removed at once.

    Args:
        image: float32 ``[channels, height, width]``.
        count: Number of regions to stop at, at least 1.
        smoothness: Cost of a border of one pixel side, at least 0.

    Returns:
        int64 ``[height, width]``, number of the region of each pixel, from 0 without gaps.

    Raises:
        ValueError: If a number is out of range.
    """
    if count < 1 or not smoothness >= 0:
        raise ValueError("merging needs a count of at least 1 and a smoothness of at least 0")
    _, height, width = image.shape
    graph = grid_graph(height, width)
    first, second, weights, areas = graph.first, graph.second, graph.weights, graph.areas
    colours = image.flatten(1)
    regions = torch.arange(height * width)
    while len(areas) > count:
        costs = -smoothness * weights
        shared = areas[first] * areas[second] / (areas[first] + areas[second])
        for colour in colours:
            costs += shared * (colour[first] - colour[second]).square()
        order = costs.argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        best = torch.full((len(areas),), len(order))
        best = best.scatter_reduce(0, first, rank, "amin").scatter_reduce(0, second, rank, "amin")
        # Each is the cheapest border of a region, so they form no circle: one less region for each.
        most = min(len(areas) - count, max(1, len(areas) // SHARE))
        removed = order[torch.unique(best)[:most]]
        roots = _connected(first[removed], second[removed], len(areas))
        kept, into = torch.unique(roots, return_inverse=True)
        before, areas = areas, torch.zeros(len(kept)).index_add_(0, into, areas)
        colours = torch.stack(
            [torch.zeros(len(kept)).index_add_(0, into, each * before) / areas for each in colours]
        )
        first, second, weights = joined(into[first], into[second], weights, len(kept))
        regions = into[regions]
    return regions.view(height, width)


def _connected(first: Tensor, second: Tensor, count: int) -> Tensor:
    """Lowest number of the regions that edges connect each region with."""
    lowest = torch.arange(count)
    while True:
        low = torch.minimum(lowest[first], lowest[second])
        lower = lowest.scatter_reduce(0, first, low, "amin")
        lower = lower.scatter_reduce(0, second, low, "amin")
        lower = lower[lower]
        if torch.equal(lower, lowest):
            return lowest
        lowest = lower
