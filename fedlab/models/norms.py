"""Normalisation layers by name."""

import math

from torch import nn

from fedlab.models.request import Norm

GROUPS = 8
"""Wanted groups of GroupNorm; fewer where the channels do not divide by it."""


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """GroupNorm, BatchNorm or nothing for so many channels.

    GroupNorm (Wu and He, arXiv 1803.08494) works on one image at a time, so DP-SGD can bound what
    an image does; BatchNorm mixes the images of a batch, so it cannot.
    """
    match norm:
        case "group":
            return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
        case "batch":
            return nn.BatchNorm2d(channels)
        case "none":
            return nn.Identity()
