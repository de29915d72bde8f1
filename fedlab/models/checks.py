"""Checks that a network takes its images and that DP-SGD can train it."""

import textwrap
from collections.abc import Callable
from typing import Literal

import torch
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter

from fedlab.core.modes import evaluation
from fedlab.models.per_example import Mode
from fedlab.models.registry import Shape
from fedlab.models.trial import COUPLED, TrialFailed, try_private_training, try_step

AUTO: tuple[Mode, ...] = ("hooks", "ew", "loop")
"""Modes that ``auto`` tries, in this order."""


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
    try:
        try_step(model, shape, size)
    except (Exception, SystemExit) as error:  # somebody else's network may raise anything
        return f"{type(error).__name__}: {first_line(error)}"
    return None


def private_training_problem(
    model: nn.Module, shape: Shape, mode: Mode | Literal["auto"] = "hooks"
) -> str | None:
    """Find out why DP-SGD cannot train a network, with the fix; ``None`` if it can.

    A copy of the network, in its present mode but with Dropout off, is tried on three images: the
    gradient of each image in the batch must be that of the image alone, and when the first image
    is changed, the gradients of the others and all buffers must stay as they are.

    Args:
        model: Any network that takes such images.
        shape: Channels, height and width of an image.
        mode: Method that computes per-example gradients; with ``auto``, expanded weights are tried
            where hooks fail, and then a loop over the images.
    """
    if mode == "auto":
        return problem_of_all(lambda each: private_training_problem(model, shape, each))
    if not any(p.requires_grad for p in model.parameters()):
        return "none of its parameters is trained"
    try:
        try_private_training(model, shape, mode)
    except TrialFailed as failure:
        return _explained(model, mode, str(failure))
    except (Exception, SystemExit) as error:  # somebody else's network may raise anything
        return _explained(model, mode, f"{type(error).__name__}: {first_line(error)}")
    return None


def problem_of_all(problem_of: Callable[[Mode], str | None]) -> str | None:
    """Return ``None`` if one of the modes that ``auto`` tries works, else why the last does not."""
    problem = None
    for mode in AUTO:
        if (problem := problem_of(mode)) is None:
            return None
    return problem


def _explained(model: nn.Module, mode: Mode, reason: str) -> str:
    """Reason of a failed trial with the fix, by the layer that is known to cause it, if any."""
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            return (
                f'its BatchNorm layer "{name}" mixes the images of a batch, so the influence '
                'of one cannot be bounded: set model.norm = "group", or use GroupNorm in your own'
            )
    if mode == "loop" or reason == COUPLED:
        return reason
    fix = f': "{mode}" cannot take it, so set per_example = "auto"'
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
        for error in ModuleValidator.validate(model, strict=False):
            return first_line(error) + fix
    return reason + fix


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened, or its type if it has no message."""
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], width=240, placeholder=" ...")
