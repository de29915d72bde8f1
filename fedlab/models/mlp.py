"""A perceptron with two hidden layers, as in FedAvg's 2NN (McMahan et al. 2017, section 3)."""

import math

from torch import nn

from fedlab.core.errors import BadInput
from fedlab.models.request import Request

HIDDEN = 200
"""Units of a hidden layer in that paper."""


def mlp(request: Request) -> nn.Module:
    """Flatten, two hidden ReLU layers of ``width`` units, linear."""
    if request.norm not in (None, "none"):
        raise BadInput('model.norm: an mlp has no normalisation, leave it out or write "none"')
    width = request.width or HIDDEN
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(request.shape), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, request.classes),
    )
