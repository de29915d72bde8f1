"""How suspicious the weights are that a client received, judged on images of its own.

A malicious server sends weights that make a few images dominate the update. The signs of it:
the D-SNR of Garov et al., "Hiding in Plain Sight: Disguising Data Stealing Attacks in Federated
Learning" (ICLR 2024), units that react to no image or to a single one, units that are copies of
each other, and weights that moved further than clients can have moved them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.gradients import batch_gradient
from attacks.reconstruction.modes import mode

LEAST_IMAGES = 2
"""Smallest number of images: with a single one, its gradient is all there is."""

PARALLEL = 1e-5
"""Largest distance of a cosine from 1 at which two rows of weights count as copies."""


@dataclass(frozen=True)
class WeightReading:
    """Signs of manipulation in the weights that a client received; higher is more suspicious.

    Attributes:
        dsnr: Largest ratio over the layers of the largest norm of one image's gradient to the sum
            of the norms of all others; above 1 if one image dominates, infinite if it is alone.
        silent: Largest share over the layers of units to which no image gives a gradient, in
            [0, 1]: dead by their biases.
        single: Largest share over the layers of units to which exactly one image gives a gradient,
            in [0, 1].
        idle: Largest share over the layers of units to which at most one image gives a gradient, in
            [0, 1]: weights that catch images one by one leave most units so.
        copies: Largest share over the layers of units whose row of weights is a positive multiple
            of another unit's, in [0, 1].
        moved: L2 distance to the weights of the round before over their norm; ``None`` if they are
            not given.
    """

    dsnr: float
    silent: float
    single: float
    idle: float
    copies: float
    moved: float | None = None


def read_weights(
    model: nn.Module,
    sent: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    before: Mapping[str, Tensor] | None = None,
) -> WeightReading:
    """Look for signs of manipulation in the weights that a server sent.

    The network runs in evaluation mode, in which images do not depend on each other; its own
    weights and modes stay as they are. A unit is a row of a parameter along its first dimension;
    D-SNR looks at parameters of two and more dimensions, one per layer.

    Args:
        model: The architecture.
        sent: Parameters and buffers by name, as the server sent them.
        images: Normalised images of the client, float ``[b, channels, height, width]``, b at least
            2: about 32 tell single units from those that few images reach.
        labels: int64 ``[b]``.
        before: Parameters of the round before by name, to measure how far they moved.

    Raises:
        ValueError: If there are fewer than 2 images, or a parameter was not sent.
    """
    if len(images) < LEAST_IMAGES:
        raise ValueError(f"the check needs at least {LEAST_IMAGES} images, not {len(images)}")
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if missing := [name for name in names if name not in sent]:
        raise ValueError(f"the server sent no {missing[0]}")
    parameters = {name: sent[name] for name in names}
    gradients = _each_gradient(model, parameters, sent, images, labels)
    reached = [(rows != 0).any(2).sum(0) for rows in gradients.values()]
    return WeightReading(
        dsnr=max(
            (_dsnr(gradients[name]) for name, p in parameters.items() if p.ndim > 1), default=0.0
        ),
        silent=max(_share(counts == 0) for counts in reached),
        single=max(_share(counts == 1) for counts in reached),
        idle=max(_share(counts <= 1) for counts in reached),
        copies=max(map(_copies, parameters.values())),
        moved=None if before is None else _moved(parameters, before),
    )


def _each_gradient(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    sent: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
) -> dict[str, Tensor]:
    """Gradient of each image by parameter name, float ``[b, units, values]``."""
    buffers = {name: sent.get(name, buffer) for name, buffer in model.named_buffers()}
    with mode(model, training=False):
        each = [
            batch_gradient(model, parameters, buffers, image[None], label[None])
            for image, label in zip(images, labels, strict=True)
        ]
    return {name: torch.stack([_rows(one[name]) for one in each]) for name in parameters}


def _rows(gradient: Tensor) -> Tensor:
    """A gradient with a row for each unit; a scalar is one unit."""
    return gradient.reshape(len(gradient) if gradient.ndim else 1, -1)


def _dsnr(gradients: Tensor) -> float:
    """D-SNR of one layer; 0 if no image has a gradient."""
    norms = gradients.flatten(1).double().norm(dim=1)
    largest = float(norms.max())
    others = float(norms.sum()) - largest
    if largest == 0:
        return 0.0
    return largest / others if others > 0 else math.inf


def _copies(weight: Tensor) -> float:
    """Share of rows that are positive multiples of another; 0 for vectors and for zero rows."""
    if weight.ndim < 2 or weight[0].numel() < 2:
        return 0.0
    rows = weight.detach().flatten(1).double()
    norms = rows.norm(dim=1, keepdim=True)
    unit = rows / norms.where(norms > 0, 1)
    cosines = (unit @ unit.T).fill_diagonal_(0)
    return _share(cosines.amax(1) > 1 - PARALLEL)


def _moved(parameters: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    distance = math.hypot(*(float((t - before[n]).norm()) for n, t in parameters.items()))
    norm = math.hypot(*(float(before[name].norm()) for name in parameters))
    return distance / norm if norm else math.inf


def _share(which: Tensor) -> float:
    return float(which.double().mean())
