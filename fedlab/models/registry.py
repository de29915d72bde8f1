"""Every network that a scenario can name."""

from functools import partial

import torch
from torch import nn

from fedlab.core.errors import BadInput, nearest
from fedlab.core.factories import resolve
from fedlab.models import torchvision_models
from fedlab.models.checks import misfit
from fedlab.models.convnet import convnet
from fedlab.models.convnet8 import convnet8
from fedlab.models.lenet import lenet
from fedlab.models.mlp import mlp
from fedlab.models.request import Builder, Norm, Request, Shape
from fedlab.models.resnet import RESNETS


def _own(request: Request) -> nn.Module:
    """What ``model.factory`` makes, called with ``shape`` and ``classes``."""
    path = request.factory or ""
    try:
        made = resolve(path)(shape=request.shape, classes=request.classes)
    except TypeError as error:
        raise BadInput(
            f'factory "{path}" must take shape=(channels, height, width) and classes: {error}'
        ) from error
    if not isinstance(made, nn.Module):
        raise BadInput(f'factory "{path}" must return a torch.nn.Module, not {type(made)}')
    return made


MODELS: dict[str, Builder] = {
    "mlp": mlp,
    "lenet": lenet,
    "convnet": convnet,
    "convnet8": convnet8,
    **RESNETS,
    "factory": _own,
}
"""By name; torchvision's follow where a name is not here."""


def build(
    name: str,
    *,
    shape: Shape,
    classes: int,
    width: int | None = None,
    norm: Norm | None = None,
    seed: int = 0,
    factory: str | None = None,
) -> nn.Module:
    """A network at weights drawn from a seed; PyTorch's own random state stays as it is.

    Args:
        name: A key of ``MODELS``, or the name of one of torchvision's classifiers.
        shape: Channels, height, width of an image.
        classes: Outputs.
        width: Channels of the first layer; the network's usual one unless given.
        norm: ``group``, ``batch`` or ``none``; the network's usual one unless given.
        seed: Of the weights.
        factory: With ``name = "factory"``: ``package.module:function``, which is called with
            ``shape`` and ``classes``.

    Raises:
        BadInput: If there is no such network, or it does not take such images.

    Example:
        >>> sum(p.numel() for p in build("convnet8", shape=(3, 32, 32), classes=10).parameters())
        2904970
    """
    builder = _builder(name)
    request = Request(shape, classes, width, norm, factory)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            network = builder(request)
        except (RuntimeError, ValueError) as error:
            raise BadInput(f'model.name "{name}" cannot be built: {error}') from error
        if problem := misfit(network, shape, classes):
            raise BadInput(f'model.name "{name}": {problem}')
    return network


def _builder(name: str) -> Builder:
    if name in MODELS:
        return MODELS[name]
    known = torchvision_models.names()
    if name in known:
        return partial(torchvision_models.build, name)
    hint = nearest(name, [*MODELS, *known], listed=[*MODELS, "any of torchvision's"])
    raise BadInput(f'model.name "{name}" is unknown; {hint}')
