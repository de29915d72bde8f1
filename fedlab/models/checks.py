"""Checks that a network takes its images and that DP-SGD can train it."""

import copy
import textwrap
import warnings
from typing import Literal

import torch
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlab.core.modes import evaluation
from fedlab.models.per_example import Mode, with_per_example_gradients
from fedlab.models.registry import Shape


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
    except Exception as error:  # somebody else's network may raise anything
        return f"it does not take images of {size}: {_first_line(error)}"
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (2, classes):
        got = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        return f"for 2 images of {size} it must give [2, {classes}], but gives {got}"
    return None


def private_training_problem(
    model: nn.Module, shape: Shape, mode: Mode | Literal["auto"] = "hooks"
) -> str | None:
    """Find out why DP-SGD cannot train a network, with the fix; ``None`` if it can.

    A copy of the network is tried on two images: every parameter must get per-example gradients.

    Args:
        model: Any network that takes such images.
        shape: Channels, height and width of an image.
        mode: Method by which Opacus finds per-example gradients; with ``auto``, expanded weights
            are tried where hooks fail.
    """
    if mode == "auto":
        problem = private_training_problem(model, shape, "hooks")
        if problem is None or private_training_problem(model, shape, "ew") is None:
            return None
        return problem
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            return (
                f'its BatchNorm layer "{name}" mixes the images of a batch, so the influence '
                'of one cannot be bounded: set model.norm = "group", or use GroupNorm in your own'
            )
        if mode != "ew" and getattr(module, "inplace", False):
            return (
                f'its layer "{name}" works in place, where Opacus\' hooks fail: '
                f"make it {type(module).__name__}(inplace=False)"
            )
    for error in ModuleValidator.validate(model, strict=False):
        return _first_line(error)
    return _trial_failure(model, shape, mode)


def _trial_failure(model: nn.Module, shape: Shape, mode: Mode) -> str | None:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *shape, generator=generator).to(device)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            trial = with_per_example_gradients(copy.deepcopy(model).train(), mode)
            trial(images).sum().backward()
    except RuntimeError as error:
        if "inplace" in str(error) or "in-place" in str(error) or "modified" in str(error):
            return (
                "it changes a tensor in place, such as by `out += shortcut`, where Opacus' hooks "
                "fail: write `out = out + shortcut`"
            )
        return _first_line(error) + _another(mode)
    except (ValueError, NotImplementedError) as error:
        return _first_line(error) + _another(mode)
    kept = "_norm_sample" if mode == "ghost" else "grad_sample"
    for name, parameter in trial.named_parameters():
        if parameter.requires_grad and getattr(parameter, kept, None) is None:
            name = name.removeprefix("_module.")
            return f'its parameter "{name}" gets no per-example gradient{_another(mode)}'
    return None


def _another(mode: Mode) -> str:
    """Give the fix where the mode is what cannot take the network."""
    return "" if mode == "hooks" else f': "{mode}" cannot take it, so set per_example = "auto"'


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], width=240, placeholder=" ...")
