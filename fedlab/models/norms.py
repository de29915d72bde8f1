"""Normalisation layers by name."""

import math

from torch import nn

from fedlab.models.registry import Norm

GROUPS = 8
"""Number of groups of GroupNorm; fewer where the channels cannot be divided by it."""


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Make a GroupNorm layer, a BatchNorm layer, or one that does nothing.

    GroupNorm (Wu and He, arXiv 1803.08494) normalises one image at a time, so DP-SGD can bound the
    influence of an image. BatchNorm mixes the images of a batch, so DP-SGD cannot.

    Args:
        norm: Kind of the layer.
        channels: Number of input channels.
    """
    match norm:
        case "group":
            return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
        case "batch":
            return nn.BatchNorm2d(channels)
        case "none":
            return nn.Identity()
