"""A small strided convolutional network, the standard target of gradient inversion here."""

from torch import nn

from fedlab.models.norms import norm_layer
from fedlab.models.registry import Norm, Shape


def convnet(*, shape: Shape, classes: int, width: int = 48, norm: Norm = "none") -> nn.Module:
    """Two 5x5 convolutions of stride 2, each with a ReLU, and a linear layer.

    Strides instead of max pooling keep the information of every pixel in the gradient.

    Args:
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        width: Channels of both convolutions.
        norm: Normalisation layers.
    """
    channels, height, breadth = shape
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            nn.Conv2d(channels, width, 5, padding=2, stride=2),
            norm_layer(norm, width),
            nn.ReLU(),
        ]
        channels = width
        height, breadth = -(-height // 2), -(-breadth // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * height * breadth, classes))
