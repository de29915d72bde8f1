"""Residual networks in CIFAR form (He et al. 2016, arXiv 1512.03385, sections 3.3 and 4.2).

ReLUs and residual additions create new tensors: Opacus' hooks fail on tensors changed in place.
"""

from torch import Tensor, nn

from fedlab.models.norms import norm_layer
from fedlab.models.registry import Norm, Shape


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, filters: int, *, stride: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.body = nn.Sequential(
            nn.Conv2d(channels, filters, 3, padding=1, stride=stride, bias=bias),
            norm_layer(norm, filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1, bias=bias),
            norm_layer(norm, filters),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == filters
            else nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride=stride, bias=bias),
                norm_layer(norm, filters),
            )
        )
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[b, channels, h, w]`` to ``[b, filters, h / stride, w / stride]``."""
        result: Tensor = self.relu(self.body(images) + self.shortcut(images))
        return result


def resnet8(*, shape: Shape, classes: int, width: int = 16, norm: Norm = "group") -> nn.Module:
    """Three stages of one residual block each, with 16, 32 and 64 channels.

    Args:
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        width: Channels of the first stage.
        norm: Normalisation layers.
    """
    return _resnet(shape, classes, width, norm, blocks=(1, 1, 1))


def resnet18(*, shape: Shape, classes: int, width: int = 64, norm: Norm = "group") -> nn.Module:
    """Four stages of two residual blocks each, with 64, 128, 256 and 512 channels.

    Args:
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        width: Channels of the first stage.
        norm: Normalisation layers.
    """
    return _resnet(shape, classes, width, norm, blocks=(2, 2, 2, 2))


def resnet20(*, shape: Shape, classes: int, width: int = 16, norm: Norm = "group") -> nn.Module:
    """Three stages of three residual blocks each, with 16, 32 and 64 channels.

    Args:
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        width: Channels of the first stage.
        norm: Normalisation layers.
    """
    return _resnet(shape, classes, width, norm, blocks=(3, 3, 3))


def _resnet(
    shape: Shape, classes: int, width: int, norm: Norm, *, blocks: tuple[int, ...]
) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(shape[0], width, 3, padding=1, bias=norm == "none"),
        norm_layer(norm, width),
        nn.ReLU(),
    ]
    channels = width
    for stage, count in enumerate(blocks):
        filters = width * 2**stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            layers.append(Block(channels, filters, stride=stride, norm=norm))
            channels = filters
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )
