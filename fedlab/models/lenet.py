"""The sigmoid LeNet of "Deep Leakage from Gradients" (Zhu et al. 2019, arXiv 1906.08935)."""

import torch
from torch import nn

from fedlab.core.errors import BadInput
from fedlab.models.request import Request

CHANNELS = 12
SPREAD = 0.5
"""Weights and biases are uniform in +-0.5, without which sigmoids hardly pass gradients back."""


def lenet(request: Request) -> nn.Module:
    """Three 5x5 convolutions (strides 2, 2, 1), each with a sigmoid, and a linear layer."""
    if request.norm not in (None, "none"):
        raise BadInput('model.norm: lenet has no normalisation, leave it out or write "none"')
    channels, height, width = request.shape
    filters = request.width or CHANNELS
    layers: list[nn.Module] = []
    for stride in (2, 2, 1):
        layers += [nn.Conv2d(channels, filters, 5, padding=2, stride=stride), nn.Sigmoid()]
        channels = filters
        height, width = -(-height // stride), -(-width // stride)
    network = nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(filters * height * width, request.classes)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-SPREAD, SPREAD)
    return network
