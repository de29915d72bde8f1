"""A small strided convolutional network, the standard victim of gradient inversion here."""

from torch import nn

from fedlab.models.norms import norm_layer
from fedlab.models.request import Request

WIDTH = 48


def convnet(request: Request) -> nn.Module:
    """Two 5x5 convolutions of stride 2, each with a ReLU, and a linear layer.

    Strides instead of max pooling keep every pixel in the gradient; no normalisation unless asked.
    """
    channels, height, breadth = request.shape
    width, norm = request.width or WIDTH, request.norm or "none"
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            nn.Conv2d(channels, width, 5, padding=2, stride=2),
            norm_layer(norm, width),
            nn.ReLU(),
        ]
        channels = width
        height, breadth = -(-height // 2), -(-breadth // 2)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(width * height * breadth, request.classes)
    )
