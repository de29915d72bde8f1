"""The eight-layer network in the public code of Geiping et al. 2020 (arXiv 2003.14053).

Their names ConvNet8 to ConvNet64 stand for the same layers with different widths.
"""

from torch import nn

from fedlab.core.errors import BadInput
from fedlab.models.norms import norm_layer
from fedlab.models.registry import Norm, Shape

STAGES = ((1, 2, 2, 4, 4, 4), (4, 4))
"""Channels of the 3x3 convolutions in multiples of the width; max pooling ends each stage."""


def convnet8(*, shape: Shape, classes: int, width: int = 64, norm: Norm = "batch") -> nn.Module:
    """Eight 3x3 convolutions with normalisation and ReLU, two 3x3 max poolings, a linear layer.

    With the default width and normalisation it has 2,904,970 parameters for 3x32x32 images and 10
    classes.

    Args:
        shape: Channels, height and width of an image, at least 9x9 pixels.
        classes: Number of outputs.
        width: Channels of the first convolution.
        norm: Normalisation layers.

    Raises:
        BadInput: If the images are too small.
    """
    channels, height, breadth = shape
    if min(height, breadth) < 9:
        raise BadInput(
            f"convnet8 pools twice by 3, so it needs images of at least 9x9, not {height}x{breadth}"
        )
    layers: list[nn.Module] = []
    for stage in STAGES:
        for multiple in stage:
            filters = multiple * width
            layers += [
                nn.Conv2d(channels, filters, 3, padding=1),
                norm_layer(norm, filters),
                nn.ReLU(),
            ]
            channels = filters
        layers.append(nn.MaxPool2d(3))
        height, breadth = height // 3, breadth // 3
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * breadth, classes))
