"""Choice of the mode for the per-example gradients of a network, and their memory.

The rule of ``auto`` follows measurements on one CPU thread with the networks of this package, from
8x8 grey to 32x32 colour images, in batches of 16 and 64. If all layers are linear, ghost clipping
takes 5 times as long as a plain step, a fifth of any other mode. Expanded weights save up to half
the time on small convolutional networks, unless PyTorch computes the convolutions of a small batch
one by one. Opacus' hooks save a tenth of the time on residual networks.
"""

from collections.abc import Callable
from typing import Literal
from weakref import WeakKeyDictionary

from torch import nn

from fedlab.models.checks import mode_problem, separation_problem
from fedlab.models.per_example import Mode
from fedlab.models.registry import Shape

UNFOLDED = 32
"""Smallest number of examples for which PyTorch's expanded weights compute the convolutions of a
batch together (``torch/nn/utils/_expanded_weights/conv_utils.py``)."""

NARROW = 16
"""Largest number of channels for which expanded weights are the fastest in smaller batches too."""

_trials: WeakKeyDictionary[nn.Module, dict[tuple[Shape, str, bool], str | None]] = (
    WeakKeyDictionary()
)


def training_problem(
    model: nn.Module, shape: Shape, mode: Mode | Literal["auto"] = "auto"
) -> str | None:
    """Find out why DP-SGD cannot train a network, with the fix; ``None`` if it can.

    A trial takes a copy and some backward passes, so its result is kept for each network, shape and
    mode: many entries of a scenario cost one trial.

    Args:
        model: Network that takes such images.
        shape: Channels, height and width of an image.
        mode: Mode of per-example gradients; ``auto`` for any.
    """
    known = _trials.setdefault(model, {})

    def once(mode: Mode, problem_of: Callable[[], str | None]) -> str | None:
        key = (shape, mode, model.training)
        if key not in known:
            known[key] = problem_of()
        return known[key]

    # The loop can train every network that treats each image by itself.
    problem = once("loop", lambda: separation_problem(model, shape))
    if problem is not None or mode == "auto" or mode == "loop":
        return problem
    return once(mode, lambda: mode_problem(model, shape, mode))


def fastest(model: nn.Module, shape: Shape, *, batch_size: int, flat: bool) -> Mode:
    """Choose the fastest mode that can train a network.

    The choice depends on nothing that varies from run to run, since modes differ in the last bits.

    Args:
        model: Network to be trained.
        shape: Channels, height and width of an image.
        batch_size: Expected number of images in a batch.
        flat: True if clipping is flat, which ghost clipping needs.

    Returns:
        The mode; the ``loop`` over the images if no other can train it.
    """
    wanted = _by_layers(model, batch_size, flat=flat)
    order: tuple[Mode, ...] = (wanted, "hooks", "ew")
    return next((mode for mode in order if training_problem(model, shape, mode) is None), "loop")


def fitting(model: nn.Module, mebibytes: float) -> int:
    """Return how many per-example gradients of a network fit in memory, at least one.

    Args:
        model: Network to be trained.
        mebibytes: Memory for per-example gradients in MiB, above 0.
    """
    each = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return max(1, int(mebibytes * 2**20 // each))


def _by_layers(model: nn.Module, batch_size: int, *, flat: bool) -> Mode:
    layers = [layer for layer in model.modules() if any(True for _ in layer.parameters(False))]
    if flat and all(isinstance(layer, nn.Linear) for layer in layers):
        return "ghost"
    if not all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers):
        return "hooks"
    widest = max((each.out_channels for each in layers if isinstance(each, nn.Conv2d)), default=0)
    return "ew" if batch_size >= UNFOLDED or widest <= NARROW else "hooks"
