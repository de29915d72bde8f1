"""The network of another federation as its user names it, and how it normalises images."""

import copy
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

from fedlab.core.errors import BadInput
from fedlab.core.plugins import describe
from fedlab.models import MODELS, build
from fedlab.models.checks import misfit

log = logging.getLogger(__name__)

LARGEST_MEAN = 2.0
"""Mean of a normalisation, in size, above which it cannot be for pixels in [0, 1]."""

Network = nn.Module | Callable[..., nn.Module] | str
"""A module; a class or function that makes one; its name as ``package.module:Net``; or a name, as
``model.name`` of a scenario takes it."""


def network_of(
    model: Network,
    shape: tuple[int, int, int],
    classes: int,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Make the network on the CPU; a module is copied. PyTorch's random state stays as it is.

    Args:
        model: The network, what makes it, or a name. A class or function is called with ``shape``
            and ``classes`` as far as it has such parameters.
        shape: Channels, height and width of an image.
        classes: Number of classes.
        options: Further arguments of the class or function, by name.

    Raises:
        BadInput: If the result is no network, or fits neither the images nor the classes.
    """
    given = dict(options or {})
    name = f'model "{model}"' if isinstance(model, str) else "model"
    if isinstance(model, str) and ":" not in model:
        if unknown := given.keys() - {"width", "norm"}:
            raise BadInput(f"{name} has no setting {min(unknown)}; it takes width and norm")
        return build(model, shape=shape, classes=classes, **given)
    found: Any = MODELS.get(model) if isinstance(model, str) else model
    is_made = isinstance(found, nn.Module)
    if is_made and given:
        raise BadInput(f"{name} is made already, so {min(given)} cannot be set")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            facts = {"shape": shape, "classes": classes}
            made = copy.deepcopy(found) if is_made else found(**_accepted(found, facts), **given)
        except (Exception, SystemExit) as error:  # somebody else's code may raise anything
            raise BadInput(f"{name} cannot be made: {describe(error)}") from error
    if not isinstance(made, nn.Module):
        raise BadInput(f"{name} must make a torch.nn.Module, not {type(made)}")
    made = made.cpu()
    if problem := misfit(made, shape, classes):
        raise BadInput(f"{name}: {problem}")
    return made


def network_name(model: Network) -> str:
    """Name of a network on a page: as it was named, or that of its class or function."""
    if isinstance(model, str):
        return model
    named = type(model) if isinstance(model, nn.Module) else model
    return getattr(named, "__qualname__", type(named).__name__)


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Repeat a single value for all channels.

    Raises:
        BadInput: If the number of values is neither 1 nor the number of channels.
    """
    if len(values) not in (1, channels):
        raise BadInput(f"mean and std need 1 or {channels} values, not {len(values)}")
    return values * channels if len(values) == 1 else values


def normalisation_of(
    model: nn.Module,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channels: int,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by which the client normalises its images, for each channel.

    They are never guessed, since a wrong pair spoils the attack. Without them a network is accepted
    whose first layer is torchvision's ``Normalize``: it takes pixels in [0, 1].

    Args:
        model: The client's network.
        mean: Mean, one value or one per channel, on pixels in [0, 1]; ``None`` if not stated.
        std: Standard deviation, one value or one per channel, above 0; ``None`` if not stated.
        channels: Number of channels of an image.

    Raises:
        BadInput: If they are not stated and the network does not normalise, only one of them is
            stated, their number is wrong, or they are for pixels from 0 to 255.
    """
    if mean is None and std is None:
        first = next((each for each in model.modules() if not [*each.children()]), None)
        if isinstance(first, transforms.Normalize | v2.Normalize):
            log.info("the network normalises its images itself, so it takes pixels in [0, 1]")
            mean, std = (0.0,), (1.0,)
    if mean is None or std is None:
        raise BadInput(
            "the normalisation of the client's images is needed, since a wrong one spoils the "
            "attack: give mean and std (--mean and --std) as the client's transforms.Normalize has "
            "them, or mean 0 and std 1 if its network takes pixels in [0, 1]"
        )
    if max(map(abs, mean), default=0.0) > LARGEST_MEAN:
        raise BadInput(
            f"mean {max(mean, key=abs):g} is none of pixels in [0, 1]: divide mean and std for "
            "pixels from 0 to 255 by 255"
        )
    return per_channel(tuple(mean), channels), per_channel(tuple(std), channels)


def _accepted(maker: Callable[..., Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts for which a class or function has a parameter; all if that is not known."""
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return dict(facts)
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return dict(facts)
    return {name: value for name, value in facts.items() if name in parameters}
