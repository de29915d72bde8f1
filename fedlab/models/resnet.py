"""Residual networks in CIFAR form (He et al. 2016, arXiv 1512.03385, sections 3.3 and 4.2).

ReLUs and residual adds are out of place: Opacus' hooks fail on tensors changed in place.
"""

from functools import partial

from torch import Tensor, nn

from fedlab.models.norms import norm_layer
from fedlab.models.request import Builder, Norm, Request


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
        """Shape ``[b, channels, h, w]`` to ``[b, filters, h / stride, w / stride]``."""
        result: Tensor = self.relu(self.body(images) + self.shortcut(images))
        return result


def _resnet(request: Request, *, blocks: tuple[int, ...], width: int) -> nn.Module:
    width, norm = request.width or width, request.norm or "group"
    layers: list[nn.Module] = [
        nn.Conv2d(request.shape[0], width, 3, padding=1, bias=norm == "none"),
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
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, request.classes)
    )


RESNETS: dict[str, Builder] = {
    "resnet8": partial(_resnet, blocks=(1, 1, 1), width=16),
    "resnet18": partial(_resnet, blocks=(2, 2, 2, 2), width=64),
    "resnet20": partial(_resnet, blocks=(3, 3, 3), width=16),
}
"""By name; the number counts the layers with weights, shortcuts aside."""
