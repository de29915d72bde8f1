"""A trap in front of a network that writes single images of a large batch into its gradient.

Fowl, Geiping, Czaja, Goldblum and Goldstein, "Robbing the Fed" (ICLR 2022, arXiv 2110.13057).
The server is malicious: the architecture changes, which a client who looks can see. Never mix
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
"""Spreads below its centre at which the lowest bin starts, so that no image falls under it."""

THRESHOLD = 1e-5
"""Part of the largest bias gradient up to which a bin counts as empty: some hundred roundings of
float32."""

STRENGTH = 0.1
"""Standard deviation, in normalised pixels, of what the block adds to a typical image: faint
enough for the network to see the image, and without effect on ratios of gradients."""


class ImprintBlock(nn.Module):
    """Adds to each image a faint pattern as strong as a statistic of it, counted in bins.

    With the same row w in every row of the first layer and edges c_0 < c_1 < ... of the bins::

        block(x) = x + V relu(W x + b),   W_i = w,   b_i = -c_i,   all columns of V equal

    All hidden units pass the same derivative ``a`` back to an image, or none where its statistic
    w x is below c_i. Hence rows i and i + 1 of the gradient differ by exactly what the images of
    bin i (c_i < w x <= c_{i+1}) contribute, whatever network and loss follow.

    Of the paper's block this is the one with a residual path, which leaves the image to the
    network behind; the gradients of the first layer have the same form without it. It holds for
    the first gradient only: a training step makes the rows differ.

    Args:
        shape: Channels, height, width of an image.
        edges: float ``[bins]``, ascending, where each bin starts; the last has no end.
        generator: CPU generator of the pattern. It is random because a constant one would be
            invisible behind a normalisation layer, which removes the mean.
        frequency: Which statistic; see ``statistic_row``.

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
        """Images with their pattern, both float ``[b, channels, height, width]``, normalised."""
        pattern: Tensor = self.pattern(self.measure(images.flatten(1)).relu())
        return images + pattern.view_as(images)

    def extra_repr(self) -> str:
        """Shape of the images and the statistic."""
        return f"shape={self.shape}, frequency={self.frequency}"


@dataclass(frozen=True)
class Imprints:
    """What was read out of a gradient, most plausible first.

    Whether a bin held one image, which is then exact, or several, which give a weighted mean, the
    attacker cannot know for sure. An ``excess`` well above 0 betrays a mixture of opposite signs;
    one near 0 proves nothing.

    Attributes:
        images: float ``[found, channels, height, width]``, normalised, not clamped.
        bins: int64 ``[found]``, the bin of each.
        excess: float ``[found]``, mean distance of its pixels from their range, 0 inside.
        shares: float ``[found]``, derivative of the loss by a shift of the first layer that only
            the images of the bin would feel.
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
    """The network with an imprint block in front, which recovers images that are alone in a bin.

    This changes the architecture: a malicious server, visible to a client who looks. With b images
    in equally likely bins about b (1 - 1/bins)^(b - 1) of them are alone.

    Args:
        model: The network of the clients; shared, not copied.
        shape: Channels, height, width of an image.
        bins: Hidden units, at least 2; several for each image of the batch, or of all batches that
            are added up before the server sees them.
        generator: CPU generator of the pattern that the block adds.
        reference: Public images ``[m, channels, height, width]``, normalised, whose quantiles give
            the bins; without them the statistic is taken as normal.
        frequency: Which statistic; see ``statistic_row``.
        centre: Mean of the statistic, where there are no reference images.
        spread: Its standard deviation, likewise. The default suits the brightness of small
            photographs normalised per channel: it is 0.50 over CIFAR-10.

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
    """The images that a gradient of a network with an imprint block holds.

    For each bin x = (dW_i - dW_{i+1}) / (db_i - db_{i+1}); the last one has no next row to
    subtract. Neither the scale of the gradient nor the weights in a sum over users matter, so
    batch means, sums and weighted averages of many users all do. Noise and clipping of the whole
    gradient do not change the form either, but noise soon covers single images.

    Args:
        gradient: By parameter name.
        block: The name of the block in the network.
        shape: Channels, height, width of an image.
        low: Lowest normalised pixel value, to broadcast against ``[n, channels, height, width]``.
        high: Highest, likewise.
        threshold: Bins whose share of the bias gradient is at most this part of the largest bias
            gradient count as empty.

    Returns:
        Images of the bins that were hit, those nearest their pixel range first.

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
    # Rows are long sums that differ by one image: no further rounding in their differences.
    rows, shares = _differences(weight.double()), _differences(bias.double())
    bins = (shares.abs() > threshold * bias.abs().max()).nonzero().squeeze(1)
    images = (rows[bins] / shares[bins, None]).to(weight.dtype).view(-1, *shape)
    excess = ((low - images).clamp(min=0) + (images - high).clamp(min=0)).flatten(1).mean(1)
    order = excess.argsort(stable=True)
    held = shares[bins].to(weight.dtype)
    return Imprints(images[order], bins[order], excess[order], held[order])


def statistic_row(pixels: int, frequency: int) -> Tensor:
    """The linear statistic that sorts images: one cosine over the flattened image.

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
    """Each row less the next; the last as it is."""
    return torch.cat([rows[:-1] - rows[1:], rows[-1:]])
