"""A perceptron with two hidden layers, as in FedAvg's 2NN (McMahan et al. 2017, section 3)."""

import math

from torch import nn

from fedlab.models.registry import Shape


def mlp(*, shape: Shape, classes: int, width: int = 200) -> nn.Module:
    """Two hidden linear layers with ReLU, and a linear layer.

    Args:
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        width: Units of a hidden layer; the paper has 200.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )
