"""Checks that a network takes its images and that DP-SGD can train it."""

import textwrap
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter

from fedlab.core.modes import evaluation
from fedlab.models.per_example import Mode
from fedlab.models.registry import Shape
from fedlab.models.trial import TrialFailed, try_mode, try_separation, try_step


def misfit(model: nn.Module, shape: Shape, classes: int) -> str | None:
    """Find out why a network cannot classify such images; ``None`` if it can.

    Two black images are passed through the network in evaluation mode. Its weights, buffers and
    modes stay as they are.

    Args:
        model: Any network on the CPU.
        shape: Channels, height and width of an image.
        classes: Number of outputs that the network must have.
    """
    size = "x".join(map(str, shape))
    try:
        with evaluation(model):
            outputs = model(torch.zeros(2, *shape))
        parameters = dict(model.named_parameters())
    except (Exception, SystemExit) as error:  # somebody else's network may raise anything
        return f"it does not take images of {size}: {first_line(error)}"
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (2, classes):
        got = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        return f"for 2 images of {size} it must give [2, {classes}], but gives {got}"
    if not outputs.is_floating_point():
        return f"it must give floating-point numbers, but gives {outputs.dtype}"
    if not parameters:
        return "it has no parameters"
    for name, parameter in parameters.items():
        if isinstance(parameter, UninitializedParameter):
            return f'its parameter "{name}" got no shape: its lazy layer is not used'
    return None


def training_problem(model: nn.Module, shape: Shape, size: int) -> str | None:
    """Find out why a network cannot take a training step of some images; ``None`` if it can.

    A copy of the network takes the step, in its present mode.

    Args:
        model: Network that takes such images.
        shape: Channels, height and width of an image.
        size: Number of images in the batch, at least 1.
    """
    return _failure(lambda: try_step(model, shape, size))


def private_training_problem(
    model: nn.Module, shape: Shape, mode: Mode | Literal["auto"] = "hooks"
) -> str | None:
    """Find out why DP-SGD cannot train a network, with the fix; ``None`` if it can.

    A copy of the network is tried on three images: each must be treated by itself, and the mode
    must give its gradient. A loop over the images always does.

    Args:
        model: Any network that takes such images.
        shape: Channels, height and width of an image.
        mode: Method that computes per-example gradients; ``auto`` for any.
    """
    if problem := separation_problem(model, shape):
        return problem
    if mode == "auto" or mode == "loop":
        return None
    return mode_problem(model, shape, mode)


def separation_problem(model: nn.Module, shape: Shape) -> str | None:
    """Find out why no mode of DP-SGD can train a network, with the fix; ``None`` if one can.

    Args:
        model: Any network that takes such images.
        shape: Channels, height and width of an image.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return "none of its parameters is trained"
    reason = _failure(lambda: try_separation(model, shape))
    if reason is None:
        return None
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            return (
                f'its BatchNorm layer "{name}" mixes the images of a batch, so the influence '
                'of one cannot be bounded: set model.norm = "group", or use GroupNorm in your own'
            )
    return reason


def mode_problem(model: nn.Module, shape: Shape, mode: Mode) -> str | None:
    """Find out why a mode cannot train a network that treats each image by itself, with the fix.

    Args:
        model: A network without a ``separation_problem``.
        shape: Channels, height and width of an image.
        mode: Method that computes per-example gradients.

    Returns:
        The reason; ``None`` if the mode can train it.
    """
    reason = _failure(lambda: try_mode(model, shape, mode))
    if reason is None:
        return None
    if mode != "ew":
        for name, layer in model.named_modules():
            if getattr(layer, "inplace", False):
                return (
                    f'its layer "{name}" works in place, where Opacus\' hooks fail: '
                    f"make it {type(layer).__name__}(inplace=False)"
                )
        if any(word in reason for word in ("inplace", "in-place", "modified")):
            return (
                "it changes a tensor in place, such as by `out += shortcut`, where Opacus' hooks "
                "fail: write `out = out + shortcut`"
            )
        from opacus.validators import ModuleValidator

        for error in ModuleValidator.validate(model, strict=False):
            reason = first_line(error)
            break
    return f'{reason}: "{mode}" cannot take it, so set per_example = "auto"'


def _failure(trial: Callable[[], None]) -> str | None:
    """The reason why a trial fails; ``None`` if it does not."""
    try:
        trial()
    except TrialFailed as failure:
        return str(failure)
    except (Exception, SystemExit) as error:  # somebody else's network may raise anything
        return f"{type(error).__name__}: {first_line(error)}"
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened, or its type if it has no message."""
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], width=240, placeholder=" ...")
