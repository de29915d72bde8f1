"""The sigmoid LeNet of "Deep Leakage from Gradients" (Zhu et al. 2019, arXiv 1906.08935)."""

import torch
from torch import nn

from fedlab.models.registry import Shape

SPREAD = 0.5
"""Weights and biases are uniform in +-0.5, without which sigmoids hardly pass gradients back."""


def lenet(*, shape: Shape, classes: int, width: int = 12) -> nn.Module:
    """Three 5x5 convolutions (strides 2, 2, 1), each with a sigmoid, and a linear layer.

    Args:
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        width: Channels of every convolution.
    """
    channels, height, breadth = shape
    layers: list[nn.Module] = []
    for stride in (2, 2, 1):
        layers += [nn.Conv2d(channels, width, 5, padding=2, stride=stride), nn.Sigmoid()]
        channels = width
        height, breadth = -(-height // stride), -(-breadth // stride)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * height * breadth, classes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-SPREAD, SPREAD)
    return network
