"""Trap weights: a first fully connected layer whose units each answer to few images of a batch.

Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov and Papernot, "When the Curious Abandon Honesty:
Federated Learning Is Not Private" (EuroS&P 2023, arXiv 2112.02918), and Nowak, Bott, Khachaturov,
Puppe, Krenzer and Hekalo, "QBI: Quantile-Based Bias Initialization for Efficient Private Data
Reconstruction in Federated Learning" (2024, arXiv 2406.18745). The server is malicious: it sends
weights that no training produces, in the architecture that was agreed on. Never mix results with
those of an honest-but-curious server.

A unit relu(w x + b) that one image x of a batch activates has the gradient dL/dw = x dL/db, so that
the ratio of the two is the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor, nn

from attacks.gradients import batch_gradient
from attacks.malicious_server.passed_image import (
    Shape,
    first_linear,
    images_passed,
    layer_input,
    passing_weights,
)
from attacks.malicious_server.suppression import DEAD

Rule = Literal["quantile", "halves"]
"""``quantile`` is QBI, ``halves`` are the trap weights of Boenisch et al."""

SCALE = 0.95
"""Scaling factor of ``halves`` without public images. The authors tune it for each data set, on
images of its kind."""

NORM = 0.577
"""Usual norm of each row of the layer: that of PyTorch's initial weights, 1/sqrt(3)."""

TUNED_UNITS = 200
"""Largest number of units by which the scaling factor of ``halves`` is chosen."""

THRESHOLD = 1e-5
"""Share of the largest bias gradient up to which a unit counts as silent: some hundred rounding
errors of float32."""

LEVELS = 255
"""Largest pixel of an image of 8 bits a channel, as cameras and data sets have them."""

PROBES = 2
"""Number of random images on which a network is tried."""

CLOSE = 1e-3
"""Largest error of a normalised pixel up to which a network passes an image on."""


@dataclass(frozen=True)
class Caught:
    """The images that units of the layer caught, most plausible first and each once.

    A unit that several images activate gives a mixture of them. The attacker cannot tell for sure,
    but a mixture is hardly an image of 8 bits: its ``distance`` is about a quarter of a level.

    Attributes:
        images: Normalised images, not clamped, float ``[found, channels, height, width]``.
        units: A unit that caught the image, int64 ``[found]``: of several, that with the smallest
            ``distance``.
        distance: Mean distance of the pixels from the nearest level of 8 bits, in levels, float
            ``[found]``.
        shares: Derivative of the loss by the bias of the unit, float ``[found]``.
    """

    images: Tensor = field(repr=False)
    units: Tensor
    distance: Tensor
    shares: Tensor


def set_traps(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    shape: Shape,
    rule: Rule,
    batch_size: int,
    generator: torch.Generator,
    mean: Sequence[float],
    std: Sequence[float],
    reference: Tensor | None = None,
    norm: float = NORM,
) -> dict[str, Tensor]:
    """Change the first fully connected layer so that each unit answers to one image of a batch.

    Under ``quantile`` the rows w are normally distributed and the biases let a share 1/B of images
    activate a unit. With z the quantile of the normal distribution at 1 - 1/B::

        b = -||w|| z                               for standardised, independent pixels
        b = -(mean(w x) + deviation(w x) z)        over public images x

    Under ``halves`` a random half of each row is negative, and the other half has the same numbers
    as positive ones, times a scaling factor s < 1, for pixels in [0, 1] and without a bias. The
    bias that is sent undoes the normalisation. Public images give the factor for a share of 1/B.

    About N (1 - 1/B)^(B - 1) of N units are activated by one image. If images activate units
    independently, each of B images leaks with probability 1 - (1 - (1 - 1/B)^(B - 1) / B)^N.

    Convolutions before the layer get kernels that pass the image on.

    Args:
        model: The network; it stays unchanged.
        state: Parameters and buffers by name; they stay unchanged.
        shape: Channels, height and width of an image.
        rule: How weights and biases are chosen.
        batch_size: Number B of images in the batch, or in all batches whose sum the server sees.
        generator: CPU generator of the weights.
        mean: Mean of the normalisation for each channel, on pixels in [0, 1].
        std: Standard deviation of the normalisation for each channel.
        reference: Normalised public images ``[m, channels, height, width]``; without them pixels
            are assumed to be standardised (``quantile``), or the scaling factor is ``SCALE``.
        norm: Norm of each row of the layer, above 0. A gradient gives the same images at any norm.
            Weights after local steps are rounded relative to their own size, so smaller rows lose
            less; but then units of the layer behind are idle, which clients can see.

    Returns:
        All parameters and buffers by name.

    Raises:
        ValueError: If the network has no such layer, or cannot pass images on to it.
    """
    layer, sent = _passed_on(model, state, shape, mean, std)
    front = partial(layer_input, model, sent, layer)
    old = state[f"{layer}.weight"]
    with torch.no_grad():
        black = old.new_zeros((1, *shape))
        offset = front(black)[0]
        deviation, centre = (
            front(black + old.new_tensor(each).view(1, -1, 1, 1))[0] - offset
            for each in (std, mean)
        )
        # Other inputs of the layer are the same for all images.
        pixels = (deviation > 0).nonzero().squeeze(1)
        deviation, centre = deviation[pixels], centre[pixels]
        seen = None if reference is None else (front(reference.to(old)) - offset)[:, pixels]
        if rule == "quantile":
            drawn = torch.randn((len(old), len(pixels)), generator=generator).to(old)
            bias = -_quantile(drawn, seen, batch_size)
        else:
            known = None if seen is None else seen * deviation + centre
            halves = _halves(len(old), len(pixels), generator).to(old)
            scale = SCALE if known is None else _scale(halves[:TUNED_UNITS], known, batch_size)
            halves = halves.where(halves < 0, scale * halves)
            drawn, bias = halves * deviation, halves @ centre
        length = norm / drawn.norm(dim=1)
        rows = torch.zeros_like(old).index_copy(1, pixels, drawn * length[:, None])
        return {**sent, f"{layer}.weight": rows, f"{layer}.bias": bias * length - rows @ offset}


def check_traps(
    model: nn.Module,
    *,
    shape: Shape,
    generator: torch.Generator,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Try on random images whether trap weights work with a network.

    Args:
        model: The network, in the mode of the clients; it stays unchanged.
        shape: Channels, height and width of an image.
        generator: CPU generator of the images.
        mean: Mean of the normalisation for each channel, on pixels in [0, 1].
        std: Standard deviation of the normalisation for each channel.

    Raises:
        ValueError: If the network has no such layer, does not pass images on to it, or has no ReLU
            behind it.
    """
    own = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    layer, state = _passed_on(model, own, shape, mean, std)
    weight = state[f"{layer}.weight"]
    centre, deviation = (weight.new_tensor(each).view(1, -1, 1, 1) for each in (mean, std))
    probes = (torch.rand((PROBES, *shape), generator=generator).to(weight) - centre) / deviation
    features = layer_input(model, state, layer, probes)
    returned = images_passed(model, state, layer, features, shape=shape)
    if not torch.allclose(returned, probes, atol=CLOSE):
        raise ValueError(_refusal(f"what reaches {layer} is not the image"))
    bias = torch.full_like(state[f"{layer}.bias"], DEAD)
    dead = state | {f"{layer}.weight": torch.zeros_like(weight), f"{layer}.bias": bias}
    names = dict(model.named_parameters())
    gradient = batch_gradient(
        model,
        {name: dead[name] for name in names},
        {name: tensor for name, tensor in dead.items() if name not in names},
        probes,
        torch.zeros(PROBES, dtype=torch.int64, device=weight.device),
    )
    if gradient[f"{layer}.weight"].any():
        raise ValueError(_refusal(f"{layer} has no ReLU behind it"))


def read_caught(
    model: nn.Module,
    state: Mapping[str, Tensor],
    gradient: Mapping[str, Tensor],
    *,
    shape: Shape,
    low: Tensor,
    high: Tensor,
    threshold: float = THRESHOLD,
) -> Caught:
    """Read the images out of a gradient at trap weights.

    Neither the scale of the gradient nor weights in a sum over users matter, so batch means, sums
    and weighted averages over users all work.

    Args:
        model: The network; it stays unchanged.
        state: Parameters and buffers that were sent, by name.
        gradient: Gradient by parameter name.
        shape: Channels, height and width of an image.
        low: Smallest normalised pixel value, broadcast against ``[n, channels, height, width]``.
        high: Largest normalised pixel value, broadcast in the same way.
        threshold: Share of the largest bias gradient up to which a unit counts as silent.

    Returns:
        The images of all units that are not silent, those nearest to images of 8 bits first.

    Raises:
        ValueError: If the network has no such layer, or its gradient is not finite.
    """
    layer = first_linear(model)
    weight, bias = (gradient[f"{layer}.{kind}"].detach() for kind in ("weight", "bias"))
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise ValueError(f"the gradient of {layer} is not finite")
    units = (bias.abs() > threshold * bias.abs().max()).nonzero().squeeze(1)
    images = images_passed(model, state, layer, weight[units] / bias[units, None], shape=shape)
    levels = LEVELS * (images - low) / (high - low)
    distance = (levels - levels.round().clamp(0, LEVELS)).abs().flatten(1).mean(1)
    order = distance.argsort(stable=True)
    places = order[_unlike(levels[order])]
    units = units[places]
    return Caught(images[places], units, distance[places], bias[units])


def _passed_on(
    model: nn.Module,
    state: Mapping[str, Tensor],
    shape: Shape,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[str, dict[str, Tensor]]:
    """The layer, and the state under which images get there."""
    lift = max(one / other for one, other in zip(mean, std, strict=True))
    try:
        layer = first_linear(model)
        return layer, {**state, **passing_weights(model, layer, channels=shape[0], lift=lift)}
    except ValueError as error:
        raise ValueError(_refusal(str(error))) from error


def _refusal(reason: str) -> str:
    return (
        "trap weights need a network such as mlp, whose first fully connected layer has a bias and "
        "ReLU, and nothing before it but convolutions with ReLU and channels for all pixels: "
        f"{reason}"
    )


def _quantile(rows: Tensor, seen: Tensor | None, batch_size: int) -> Tensor:
    """Value that a row times an image exceeds with probability 1/B, as a normal variable."""
    z = NormalDist().inv_cdf(1 - 1 / max(2, batch_size))
    centre, spread = rows.new_zeros(len(rows)), rows.norm(dim=1)
    if seen is not None:
        values = seen @ rows.T
        centre, spread = values.mean(0), values.std(0, correction=0)
    value: Tensor = centre + z * spread
    return value


def _halves(units: int, pixels: int, generator: torch.Generator) -> Tensor:
    """Rows whose random halves have the same numbers, once negative and once positive."""
    half = pixels // 2
    order = torch.rand((units, pixels), generator=generator).argsort(dim=1)
    sizes = torch.randn((units, half), generator=generator).abs()
    rows = torch.zeros((units, pixels)).scatter_(1, order[:, :half], -sizes)
    return rows.scatter_(1, order[:, half : 2 * half], sizes)


def _scale(halves: Tensor, pixels: Tensor, batch_size: int) -> float:
    """Factor of the positive weights by which a share 1/B of images activates a unit.

    An image activates a unit if the factor exceeds the ratio of its negative to its positive part.
    """
    ratios = (pixels @ halves.clamp(max=0).T) / -(pixels @ halves.clamp(min=0).T)
    ordered = ratios.flatten().nan_to_num(float("inf"))
    return float(ordered.kthvalue(max(1, round(len(ordered) / batch_size))).values)


def _unlike(levels: Tensor) -> Tensor:
    """Places of images, without those that are alike to less than a level to one before them."""
    means = levels.flatten(1).mean(1)
    left = torch.arange(len(levels), device=levels.device)
    kept = []
    while len(left):
        first = left[0]
        kept.append(first)
        near = left[(means[left] - means[first]).abs() < 1]
        alike = near[(levels[near] - levels[first]).abs().flatten(1).amax(1) < 1]
        left = left[~torch.isin(left, alike)]
    return torch.stack(kept) if kept else left
