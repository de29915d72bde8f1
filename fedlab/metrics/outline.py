"""The outline score: whether a reconstruction shows the regions of the true image.

A silhouette may be there at a PSNR that hides everything else. Both images are segmented alike, by
the Potts problem on one graph (Geiping et al., arXiv 2004.11075), and the two segmentations are
compared by the adjusted Rand index (Hubert and Arabie, Journal of Classification 2, 1985).
"""

import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from attacks.graphs.potts import segment
from attacks.graphs.regions import grid_graph, region_graph, region_means
from attacks.graphs.superpixels import colour_costs, colours_of, slic
from fedlab.metrics.images import comparable

COLOURS = 6
"""Number of colours of the true image, of which each region gets one."""

LARGEST = 1_024
"""Largest number of regions; images of more pixels are cut into about as many super-pixels."""

SMOOTHNESS = 0.1
"""Cost of a border of one pixel side, as a share of the variance of the true image."""

_FLAT = 1e-6  # A variance below a hundredth of a grey level: there is no outline.


def outline(truth: Tensor, guess: Tensor) -> Tensor:
    """Agreement of the segmentations of true and reconstructed images.

    The colours, the super-pixels and the smoothness are those of the true image. The guess is first
    brought to its mean and variance, since an outline depends on neither.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        guess: The same shape; clamped to [0, 1].

    Returns:
        float64 ``[n]``, at most 1; 0 is what segmentations without any relation have on average,
        but real images of a class have more. NaN where the guess has NaN, or the true image is of
        one colour.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> image = torch.zeros(1, 1, 12, 12)
        >>> image[..., 3:9, 3:9] = 1
        >>> outline(image, 0.2 + 0.5 * image)
        tensor([1.], dtype=torch.float64)
    """
    truth, guess = (images.float().cpu() for images in comparable(truth, guess))
    values = [_agreement(*pair) for pair in zip(truth, guess, strict=True)]
    return torch.tensor(values, dtype=torch.float64)


def _agreement(true: Tensor, guess: Tensor) -> float:
    variance = float(true.var(correction=0))
    if variance < _FLAT or guess.isnan().any():
        return torch.nan
    channels, height, width = true.shape
    if height * width <= LARGEST:
        regions = torch.arange(height * width)
        graph = grid_graph(height, width)
    else:
        cut = slic(true, LARGEST)
        regions, graph = cut.flatten(), region_graph(cut)
    colours = colours_of(true, COLOURS)
    spread = guess.std(correction=0).clamp(min=_FLAT**0.5)
    matched = (guess - guess.mean()) / spread * variance**0.5 + true.mean()
    pixels = torch.stack([true, matched]).flatten(2).permute(2, 0, 1).reshape(-1, 2 * channels)
    means = region_means(pixels, regions, graph.areas).view(-1, channels)
    # What pixels differ from the mean of their region costs the same whichever its colour.
    costs = colour_costs(means, colours).view(-1, 2, len(colours)) * graph.areas.view(-1, 1, 1)
    found = segment(costs, graph, smoothness=SMOOTHNESS * variance, gap=1e-2, iterations=500)
    one, other = found.labels[regions].T.numpy()
    return float(adjusted_rand_score(one, other))
