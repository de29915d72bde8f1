"""Whether a network fits its images, and whether DP-SGD can train it."""

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
from fedlab.models.request import Shape


def misfit(model: nn.Module, shape: Shape, classes: int) -> str | None:
    """Why a network cannot take such images, or ``None`` if it can.

    Two images are passed through it in evaluation mode; its weights and modes stay as they are.

    Args:
        model: Any network on the CPU.
        shape: Channels, height, width of an image.
        classes: Outputs that are needed.
    """
    size = "x".join(map(str, shape))
    try:
        with evaluation(model):
            outputs = model(torch.zeros(2, *shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        return f"it does not take images of {size}: {_first_line(error)}"
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (2, classes):
        got = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        return f"for 2 images of {size} it must give [2, {classes}], but gives {got}"
    return None


def private_training_problem(
    model: nn.Module, shape: Shape, mode: Mode | Literal["auto"] = "hooks"
) -> str | None:
    """Why DP-SGD cannot train a network, with the fix, or ``None`` if it can.

    A copy is tried out: per-example gradients of two images have to come out for every parameter.

    Args:
        model: Any network that takes such images.
        shape: Channels, height, width of an image.
        mode: Of Opacus; ``auto`` finds another one if the hooks fail.
    """
    if mode == "auto":
        problem = private_training_problem(model, shape, "hooks")
        if problem is None or private_training_problem(model, shape, "ew") is None:
            return None
        return problem
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            return (
                f'its BatchNorm layer "{name}" mixes the images of a batch, so what one of them '
                'does cannot be bounded: set model.norm = "group", or use GroupNorm in your own'
            )
        if mode != "ew" and getattr(module, "inplace", False):
            return (
                f'its layer "{name}" works in place, where Opacus\' hooks fail: '
                f"make it {type(module).__name__}(inplace=False)"
            )
    for error in ModuleValidator.validate(model, strict=False):
        return _first_line(error)
    return _failure_of_a_trial(model, shape, mode)


def _failure_of_a_trial(model: nn.Module, shape: Shape, mode: Mode) -> str | None:
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
    """The fix where it is the mode that cannot take the network."""
    return "" if mode == "hooks" else f': "{mode}" cannot take it, so set per_example = "auto"'


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], width=240, placeholder=" ...")
