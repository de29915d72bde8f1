"""Names of networks, and the types of what a network is built from. Importing it needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from fedlab.core.plugins import Registry, check_callable

if TYPE_CHECKING:
    from torch import nn

Norm = Literal["group", "batch", "none"]
"""Normalisation layers of a network."""
Shape = tuple[int, int, int]
"""Channels, height and width of an image."""
Builder = Callable[..., "nn.Module"]
"""A function that makes a network at random weights, drawn from PyTorch's global generator.

It is called with the keywords ``shape`` and ``classes``, and with ``width`` and ``norm`` where the
scenario sets them; a builder without such a parameter refuses the setting.
"""

MODELS: Registry[Builder] = Registry(
    "model",
    group="fedlab.models",
    builtin={
        "mlp": "fedlab.models.mlp:mlp",
        "lenet": "fedlab.models.lenet:lenet",
        "convnet": "fedlab.models.convnet:convnet",
        "convnet8": "fedlab.models.convnet8:convnet8",
        "resnet8": "fedlab.models.resnet:resnet8",
        "resnet18": "fedlab.models.resnet:resnet18",
        "resnet20": "fedlab.models.resnet:resnet20",
    },
    check=check_callable,
)
"""Networks by name; torchvision's classifiers follow where a name is not here."""
