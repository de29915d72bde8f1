"""A small strided convolutional network, the standard victim of gradient inversion here."""

from torch import nn

from fedlab.models.norms import norm_layer
from fedlab.models.request import Request

WIDTH = 48


def convnet(request: Request) -> nn.Module:
    """Three 3x3 convolutions (strides 1, 2, 2) with ReLUs, and a linear layer.

    Strides instead of max pooling keep every pixel in the gradient; no normalisation unless asked.
    """
    channels, height, breadth = request.shape
    width, norm = request.width or WIDTH, request.norm or "none"
    layers: list[nn.Module] = []
    for stride in (1, 2, 2):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, stride=stride),
            norm_layer(norm, width),
            nn.ReLU(),
        ]
        channels = width
        height, breadth = -(-height // stride), -(-breadth // stride)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(width * height * breadth, request.classes)
    )
