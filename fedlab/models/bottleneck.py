"""A variational bottleneck before the last layer: the defense PRECODE.

Scheliga, Mäder and Seeland, "PRECODE - A Generic Model Extension to Prevent Deep Gradient Leakage"
(WACV 2022, arXiv 2108.04725).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.core.errors import BadInput

WEIGHT = 1e-3
"""Weight of the bottleneck's divergence in the loss (the paper's beta)."""


class VariationalBottleneck(nn.Module):
    """Replaces features by a decoded random draw around their encoding.

    With (m, s) = E h for the features h, the output is D (m + softplus(s) e), where e is standard
    normal noise, drawn anew in every pass and every mode from PyTorch's global generators. In
    training mode the loss of the network, whatever it is, also gets the gradient of ``WEIGHT``
    times the mean divergence of the draw from a standard normal one, in bits.

    Args:
        features: Number of features that go in and come out.
        latent: Number of latent units, half the outputs of E.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(features, 2 * latent)
        self.decoder = nn.Linear(latent, features)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[b, features]`` to ``[b, features]``."""
        mean, spread = self.encoder(features).chunk(2, dim=-1)
        deviation = functional.softplus(spread)
        draw = mean + deviation * torch.randn_like(deviation)
        if self.training:
            draw = _Penalised.apply(draw, WEIGHT * divergence(mean, deviation))
        found: Tensor = self.decoder(draw)
        return found


def divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of normal draws from standard normal ones, in bits.

    Args:
        mean: float ``[b, latent]``; the result for an empty batch is 0.
        deviation: float ``[b, latent]``, above 0.

    Returns:
        A scalar.
    """
    each = (mean.square() + deviation.square() - 1) / 2 - deviation.log()
    return each.sum() / max(1, len(mean)) / math.log(2)


def with_bottleneck(network: nn.Module, *, latent: int) -> nn.Module:
    """Put a variational bottleneck before the last linear layer of a network.

    Args:
        network: Network whose last linear layer takes one vector of each image; it is changed.
        latent: Number of latent units, at least 1.

    Returns:
        The network; or a new one around it if it is a single layer.

    Raises:
        BadInput: If the network has no linear layer.
    """
    layers = [(name, each) for name, each in network.named_modules() if type(each) is nn.Linear]
    if not layers:
        raise BadInput(
            "model.bottleneck stands before a linear layer, but the network has none: leave it out"
        )
    name, last = layers[-1]
    extended = nn.Sequential()
    extended.add_module("bottleneck", VariationalBottleneck(last.in_features, latent))
    extended.add_module("classifier", last)
    if not name:
        return extended
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, extended)
    return network


class _Penalised(torch.autograd.Function):
    """Returns a tensor as it is, and adds a penalty to whatever loss is computed from it.

    Only the first derivative after a forward pass is that of the loss. A second one, as an attack
    computes it of a simulated gradient, passes the same graph and must not add the penalty again.
    """

    @staticmethod
    def forward(tensor: Tensor, penalty: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.first = True

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor]:
        (penalty,) = ctx.saved_tensors
        ctx.first, first = False, ctx.first
        return slope, torch.full_like(penalty, float(first))
