"""A prior for noisy gradients: images that are constant on super-pixels of the attack's own.

It puts the total variation of arXiv 2004.11075 between regions in the place of that between pixels.
The attacker has no image to cut, so super-pixels come from its candidates.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attacks.graphs.regions import RegionGraph, graph_variation, region_graph, region_means
from attacks.graphs.superpixels import slic
from attacks.reconstruction.priors import (
    SMOOTHING,
    PriorContext,
    total_variation_prior,
    with_opponents,
)

CELL = 3
"""Side of a super-pixel in pixels: a few pixels each, since attacked images have few."""

BLOCK = 4
"""Side in pixels of the squares that candidates start as with ``start = "blocks"``."""

START = 0.3
"""Share of the iterations before super-pixels are cut: earlier ones would keep early mistakes."""

RENEWED = 20
"""Number of times that super-pixels are cut."""

_Regions = tuple[Tensor, RegionGraph]


@dataclass(frozen=True)
class GraphVariation:
    """Total variation between super-pixels, plus the mean distance of pixels from their region's.

    The two parts have the scale of ``total_variation`` and the same weight. Until ``START`` there
    are no super-pixels: the prior is the total variation between pixels, or that between squares
    of ``BLOCK`` pixels, a coarse start. Then SLIC cuts the candidates, again and again.

    Attributes:
        start: What the prior looks at first.
    """

    start: Literal["pixels", "blocks"] = "pixels"

    @property
    def key(self) -> str:
        """Name in tables."""
        return "graph-variation" if self.start == "pixels" else "graph-variation-blocks"

    def __call__(self, images: Tensor, context: PriorContext) -> Tensor:
        """Penalty of normalised images ``[n, channels, height, width]`` as a scalar."""
        iterations = context.settings.iterations
        calls = context.memory.setdefault("calls", 0)
        context.memory["calls"] = calls + 1
        first = int(START * iterations)
        if calls < first:
            if self.start == "pixels":
                return total_variation_prior(images, context)
            if not calls:
                context.memory["regions"] = _graphed(blocks_of(images))
        elif (calls - first) % max(1, (iterations - first) // RENEWED) == 0:
            context.memory["regions"] = _graphed(superpixels_of(context.problem.pixels(images)))
        if context.settings.tv_opponents:
            images = with_opponents(images)
        return variation(images, *context.memory["regions"])


graph_variation_prior = GraphVariation()
"""The prior with the name ``graph-variation``."""


def variation(images: Tensor, regions: Tensor, graph: RegionGraph) -> Tensor:
    """Total variation between the regions of images plus the distance of pixels from their means.

    Args:
        images: float ``[n, channels, height, width]``.
        regions: int64 ``[n * height * width]``, region of each pixel.
        graph: Graph of the regions.

    Returns:
        A scalar: the first is divided by the number of values, the second is a mean.
    """
    pixels = images.movedim(1, -1).flatten(0, -2)
    means = region_means(pixels, regions, graph.areas)
    between = graph_variation(means, graph, smoothing=SMOOTHING) / pixels.numel()
    within = ((pixels - means[regions]).square() + SMOOTHING).sqrt().mean()
    return between + within


def superpixels_of(pixels: Tensor) -> Tensor:
    """Super-pixels of each image, int64 ``[n, height, width]``, numbered over all images.

    Args:
        pixels: float32 ``[n, channels, height, width]``, pixels in [0, 1].
    """
    _, _, height, width = pixels.shape
    count = max(1, height * width // CELL**2)
    return _numbered([slic(image, count) for image in pixels.detach()])


def blocks_of(images: Tensor) -> Tensor:
    """Squares of ``BLOCK`` pixels, int64 ``[n, height, width]``, numbered over all images."""
    count, _, height, width = images.shape
    rows, columns = (torch.arange(side, device=images.device) // BLOCK for side in (height, width))
    blocks = rows.unsqueeze(1) * (int(columns[-1]) + 1) + columns
    return _numbered([blocks] * count)


def _numbered(regions: list[Tensor]) -> Tensor:
    """Regions of several images, each numbered on from those of the image before."""
    found, total = [], 0
    for each in regions:
        found.append(each + total)
        total += int(each.max()) + 1
    return torch.stack(found)


def _graphed(regions: Tensor) -> _Regions:
    return regions.flatten(), region_graph(regions)
