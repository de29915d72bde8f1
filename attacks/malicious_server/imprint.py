"""An imprint block in front of a network, which writes single images into its gradient.

Fowl, Geiping, Czaja, Goldblum and Goldstein, "Robbing the Fed" (ICLR 2022, arXiv 2110.13057).
The server is malicious: clients can see the block in the architecture. Never mix
results with those of an honest-but-curious server.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]

BLOCK = "block"
"""Name of the block in the network that ``imprint`` returns."""

FLOOR = 10.0
"""Number of standard deviations below the mean at which the lowest bin starts."""

THRESHOLD = 1e-5
"""Share of the largest bias gradient up to which a bin counts as empty: some hundred rounding
errors of float32."""

STRENGTH = 0.1
"""Standard deviation of the pattern that the block adds to a typical image, in normalised pixels:
small enough for the network to train on the image, and without effect on ratios of gradients."""


class ImprintBlock(nn.Module):
    """Adds a faint pattern to each image, whose strength depends on a binned statistic of it.

    With the same row w in every row of the first layer and edges c_0 < c_1 < ... of the bins::

        block(x) = x + V relu(W x + b),   W_i = w,   b_i = -c_i,   all columns of V equal

    All hidden units pass the same derivative ``a`` back to an image, or none where its statistic
    w x is below c_i. Hence rows i and i + 1 of the gradient differ by exactly what the images of
    bin i (c_i < w x <= c_{i+1}) contribute, whatever network and loss follow.

    This is the paper's block with a residual path, which passes the image on to the network; the
    gradients of the first layer have the same form without it. It works for the first gradient
    only: a training step makes the rows differ.

    Args:
        shape: Shape of an image as channels, height, width.
        edges: Ascending lower limits of the bins, float ``[bins]``; the last bin has no upper
            limit.
        generator: CPU generator of the pattern. It is random because a constant one would be
            invisible behind a normalisation layer, which removes the mean.
        frequency: Frequency of the statistic; see ``statistic_row``.

    Raises:
        ValueError: If there are fewer than two bins or they all start at the same value.
    """

    def __init__(
        self, shape: Shape, *, edges: Tensor, generator: torch.Generator, frequency: int = 0
    ) -> None:
        super().__init__()
        bins, pixels = len(edges), math.prod(shape)
        if bins < 2:
            raise ValueError(f"an imprint block needs at least 2 bins, not {bins}")
        typical = float((edges[bins // 2] - edges).clamp(min=0).sum())
        if not 0 < typical < math.inf:
            raise ValueError("the bins of an imprint block must start at different, finite values")
        self.shape, self.frequency = shape, frequency
        # Made on the meta device first: no weights are drawn from PyTorch's own random state.
        self.measure = nn.Linear(pixels, bins, device="meta").to_empty(device="cpu")
        self.pattern = nn.Linear(bins, pixels, device="meta").to_empty(device="cpu")
        column = torch.randn((pixels, 1), generator=generator) * (STRENGTH / typical)
        with torch.no_grad():
            self.measure.weight.copy_(statistic_row(pixels, frequency).expand(bins, -1))
            self.measure.bias.copy_(-edges)
            self.pattern.weight.copy_(column.expand(-1, bins))
            self.pattern.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """Add the pattern to normalised images, float ``[b, channels, height, width]``."""
        pattern: Tensor = self.pattern(self.measure(images.flatten(1)).relu())
        return images + pattern.view_as(images)

    def extra_repr(self) -> str:
        """Shape of the images and the statistic."""
        return f"shape={self.shape}, frequency={self.frequency}"


@dataclass(frozen=True)
class Imprints:
    """The images in a gradient of a network with an imprint block, most plausible first.

    A bin with one image gives it exactly; a bin with several gives a weighted mean. The attacker
    cannot tell them apart for sure: an ``excess`` well above 0 shows a mixture of opposite signs,
    one near 0 proves nothing.

    Attributes:
        images: Normalised images, not clamped, float ``[found, channels, height, width]``.
        bins: Bin of each image, int64 ``[found]``.
        excess: Mean distance of the pixels from their range, float ``[found]``; 0 within it.
        shares: Derivative of the loss by a shift of the first layer that affects only the images of
            the bin, float ``[found]``.
    """

    images: Tensor = field(repr=False)
    bins: Tensor
    excess: Tensor
    shares: Tensor


def imprint(
    model: nn.Module,
    *,
    shape: Shape,
    bins: int,
    generator: torch.Generator,
    reference: Tensor | None = None,
    frequency: int = 0,
    centre: float = 0.0,
    spread: float = 0.5,
) -> nn.Sequential:
    """Put an imprint block in front of a network, to recover images that are alone in a bin.

    Clients can see the changed architecture. With b images
    in equally likely bins about b (1 - 1/bins)^(b - 1) of them are alone.

    Args:
        model: Network of the clients; it is shared, not copied.
        shape: Shape of an image as channels, height, width.
        bins: Number of hidden units, at least 2; use several for each image in the batch, or in all
            batches whose sum the server sees.
        generator: CPU generator of the pattern that the block adds.
        reference: Normalised public images ``[m, channels, height, width]``, whose quantiles give
            the bins; without them the statistic is assumed to be normally distributed.
        frequency: Frequency of the statistic; see ``statistic_row``.
        centre: Mean of the statistic if there are no reference images.
        spread: Standard deviation of the statistic, where there are no reference images. The
            default suits the brightness of small photographs normalised per channel: it is 0.50
            over CIFAR-10.

    Returns:
        Modules ``block`` and ``network``, on the network's device.

    Raises:
        ValueError: If bins, spread or reference images cannot be used.

    Example:
        >>> trap = imprint(
        ...     nn.Flatten(), shape=(1, 4, 4), bins=8, generator=torch.Generator().manual_seed(0)
        ... )
        >>> trap(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 16])
    """
    if bins < 2:
        raise ValueError(f"an imprint block needs at least 2 bins, not {bins}")
    if reference is None:
        edges = _normal_edges(bins, centre, spread)
    else:
        if not len(reference) or tuple(reference.shape[1:]) != shape:
            raise ValueError(
                f"reference images of shape {list(reference.shape)} are not some of {list(shape)}"
            )
        edges = _quantile_edges(bins, reference, frequency)
    block = ImprintBlock(shape, edges=edges, generator=generator, frequency=frequency)
    if (parameter := next(model.parameters(), None)) is not None:
        block.to(device=parameter.device, dtype=parameter.dtype)
    return nn.Sequential(OrderedDict([(BLOCK, block), ("network", model)]))


def read_out(
    gradient: Mapping[str, Tensor],
    *,
    block: str = BLOCK,
    shape: Shape,
    low: Tensor,
    high: Tensor,
    threshold: float = THRESHOLD,
) -> Imprints:
    """Read the images out of a gradient of a network with an imprint block.

    For each bin x = (dW_i - dW_{i+1}) / (db_i - db_{i+1}); the last one has no next row to
    subtract. Neither the scale of the gradient nor the weights in a sum over users matter, so
    batch means, sums and weighted averages over users all work. Noise and clipping of the whole
    gradient do not change the form either, but noise soon covers single images.

    Args:
        gradient: Gradient by parameter name.
        block: Name of the block in the network.
        shape: Shape of an image as channels, height, width.
        low: Smallest normalised pixel value, broadcast against ``[n, channels, height, width]``.
        high: Largest normalised pixel value, broadcast in the same way.
        threshold: Share of the largest bias gradient up to which a bin counts as empty.

    Returns:
        Images of the bins that are not empty, those nearest their pixel range first.

    Raises:
        ValueError: If the gradient has no such block, one of other images, or is not finite.
    """
    names = [f"{block}.measure.{kind}" for kind in ("weight", "bias")]
    if missing := [name for name in names if name not in gradient]:
        raise ValueError(f"the gradient has no {missing[0]}, so no imprint block to read out")
    weight, bias = (gradient[name].detach() for name in names)
    if weight.shape != (len(bias), math.prod(shape)):
        raise ValueError(
            f"{names[0]} is {list(weight.shape)}, which is no block for images of {list(shape)}"
        )
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise ValueError("the gradient of the imprint block is not finite")
    # Rows are long sums that differ by one image: double precision avoids further rounding.
    rows, shares = _differences(weight.double()), _differences(bias.double())
    bins = (shares.abs() > threshold * bias.abs().max()).nonzero().squeeze(1)
    images = (rows[bins] / shares[bins, None]).to(weight.dtype).view(-1, *shape)
    excess = ((low - images).clamp(min=0) + (images - high).clamp(min=0)).flatten(1).mean(1)
    order = excess.argsort(stable=True)
    held = shares[bins].to(weight.dtype)
    return Imprints(images[order], bins[order], excess[order], held[order])


def statistic_row(pixels: int, frequency: int) -> Tensor:
    """Return the linear statistic that sorts images into bins: a cosine over the flattened image.

    w_j = cos(pi frequency (j + 1/2) / pixels) / pixels, a row of the DCT-II. Frequency 0 is the
    mean brightness; a higher one may spread images that are equally bright.

    Returns:
        float32 ``[pixels]``.

    Raises:
        ValueError: If the frequency is not from 0 to pixels - 1.
    """
    if not 0 <= frequency < pixels:
        raise ValueError(f"frequency must be from 0 to {pixels - 1}, not {frequency}")
    places = torch.arange(pixels, dtype=torch.float64) + 0.5
    return (torch.cos(math.pi * frequency * places / pixels) / pixels).float()


def _normal_edges(bins: int, centre: float, spread: float) -> Tensor:
    if not 0 < spread < math.inf:
        raise ValueError(f"spread must be above 0 and finite, not {spread}")
    normal = NormalDist(centre, spread)
    inner = [normal.inv_cdf(index / bins) for index in range(1, bins)]
    return torch.tensor([centre - FLOOR * spread, *inner])


def _quantile_edges(bins: int, reference: Tensor, frequency: int) -> Tensor:
    flat = reference.detach().cpu().double().flatten(1)
    values = flat @ statistic_row(flat.shape[1], frequency).double()
    inner = values.quantile(torch.arange(1, bins, dtype=torch.float64) / bins)
    floor = values.mean() - FLOOR * values.std(correction=0)
    return torch.cat([floor.view(1), inner]).float()


def _differences(rows: Tensor) -> Tensor:
    """Subtract the next row from each row; the last row stays."""
    return torch.cat([rows[:-1] - rows[1:], rows[-1:]])
