"""Building the network that a scenario names."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn

from fedlab.core.errors import BadInput, nearest
from fedlab.core.memory import check_memory
from fedlab.core.plugins import describe
from fedlab.models.bottleneck import with_bottleneck
from fedlab.models.checks import misfit
from fedlab.models.registry import MODELS, Builder, Norm, Shape
from fedlab.models.starts import fill_biases

COPIES = 4
"""Copies of a network in memory while it trains: weights, gradients, global weights, an update."""


def build(
    name: str,
    *,
    shape: Shape,
    classes: int,
    width: int | None = None,
    norm: Norm | None = None,
    bias_start: float | None = None,
    bottleneck: int | None = None,
    seed: int = 0,
    factory: str | None = None,
) -> nn.Module:
    """Build a network on the CPU, at weights drawn from a seed.

    PyTorch's global random state stays as it is.

    Args:
        name: Name in ``MODELS``, name of one of torchvision's classifiers, or
            ``package.module:function``.
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        width: Channels of the first layer; by default the network's usual number.
        norm: Normalisation layers, ``group``, ``batch`` or ``none``; by default the usual ones.
        bias_start: Value of every bias; by default the network's usual ones.
        bottleneck: Latent units of a variational bottleneck before the last linear layer, at
            least 1; ``None`` for no bottleneck.
        seed: Seed of the weights.
        factory: With ``name = "factory"``, the function as ``package.module:function``; it is
            called with the shape and the classes alone.

    Raises:
        BadInput: If there is no such network, it cannot be built, or it does not take such images.

    Example:
        >>> sum(p.numel() for p in build("convnet8", shape=(3, 32, 32), classes=10).parameters())
        2904970
    """
    if name == "factory":
        name, width, norm = factory or "", None, None
        if ":" not in name:
            raise BadInput(f'model.factory "{name}" must be written as package.module:function')
    builder = _builder(name)
    options = _options(name, builder, {"width": width, "norm": norm})
    with torch.random.fork_rng():
        try:
            make = partial(_made, builder, bottleneck, shape=shape, classes=classes, **options)
            if MODELS.is_builtin(name):
                _refuse_without_memory(name, make)
            torch.manual_seed(seed)
            network = make()
        except BadInput:
            raise
        except TypeError as error:
            raise BadInput(
                f'model "{name}" must take shape=(channels, height, width) and classes: {error}'
            ) from error
        except (Exception, SystemExit) as error:  # somebody else's function may raise anything
            raise BadInput(f'model "{name}" cannot be built: {describe(error)}') from error
        if not isinstance(network, nn.Module):
            raise BadInput(f'model "{name}" must return a torch.nn.Module, not {type(network)}')
        if bias_start is not None:
            fill_biases(network, bias_start)
        if problem := misfit(network, shape, classes):
            raise BadInput(f'model "{name}": {problem}')
    return network


def _made(builder: Builder, bottleneck: int | None, **options: Any) -> nn.Module:
    """Call a builder, and put a bottleneck into its network if one is wanted."""
    network = builder(**options)
    if bottleneck is None or not isinstance(network, nn.Module):
        return network
    return with_bottleneck(network, latent=bottleneck)


def _refuse_without_memory(name: str, make: Builder) -> None:
    """Build a network of tensors without data, and refuse it if its data would not fit."""
    with torch.device("meta"):
        weights = sum(each.nbytes for each in make().parameters())
    check_memory(COPIES * weights, f'model "{name}" with {weights // 4:,} weights')


def _builder(name: str) -> Builder:
    if name in MODELS:
        return MODELS.get(name)
    # Torchvision takes seconds and 90 MB, since it imports PyTorch's compiler.
    from fedlab.models import torchvision_models

    known = torchvision_models.names()
    if name in known:
        return partial(torchvision_models.build, name)
    hint = nearest(name, [*MODELS.names, *known], listed=[*MODELS.names, "any of torchvision's"])
    raise BadInput(f'there is no model "{name}"; {hint}')


def _options(name: str, builder: Builder, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given, each of which the builder must take."""
    parameters: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):  # some functions written in C have no signature
        parameters = inspect.signature(builder).parameters
    given = {key: value for key, value in settings.items() if value is not None}
    if "norm" not in parameters and given.pop("norm", "none") != "none":
        raise BadInput(
            f'model.norm: model "{name}" has no normalisation to choose, leave it out or write '
            '"none"'
        )
    if "width" in given and "width" not in parameters:
        raise BadInput(f'model.width: model "{name}" has no free width, leave it out')
    return given
