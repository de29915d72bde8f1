"""Which of Opacus' modes gives the per-example gradients of a network, and how many fit in memory.

The rule of ``auto`` is what was measured on one thread of a CPU with the networks of this package,
from 8x8 grey to 32x32 colour images in batches of 16 and 64: ghost clipping takes 5 times a plain
step where all layers are linear, a fifth of any other mode; expanded weights win by up to a half on
small convolutional networks, except where PyTorch computes the convolutions of a small batch one by
one; Opacus' hooks win by a tenth on residual networks.
"""

from weakref import WeakKeyDictionary

from torch import nn

from fedlab.models.checks import private_training_problem
from fedlab.models.per_example import Mode
from fedlab.models.registry import Shape

UNFOLDED = 32
"""Examples from which on PyTorch's expanded weights treat the convolutions of a batch together
(``torch/nn/utils/_expanded_weights/conv_utils.py``)."""

NARROW = 16
"""Channels up to which they win in smaller batches too."""

_possible: WeakKeyDictionary[nn.Module, dict[Mode, bool]] = WeakKeyDictionary()


def fastest(model: nn.Module, shape: Shape, *, batch_size: int, flat: bool) -> Mode:
    """The mode that is fastest for a network, among those that can take it.

    It depends on nothing that varies from run to run, since modes differ in the last bits.

    Args:
        model: To be trained.
        shape: Channels, height, width of an image.
        batch_size: Expected number of images in a batch.
        flat: Whether clipping is flat, as ghost clipping needs it.

    Returns:
        The mode; ``hooks`` if none can, whose error says why.
    """
    wanted = _by_layers(model, batch_size, flat=flat)
    order: tuple[Mode, ...] = (wanted, "hooks", "ew")
    return next((mode for mode in order if _can(mode, model, shape)), "hooks")


def fitting(model: nn.Module, mebibytes: float) -> int:
    """How many examples' gradients fit in so much memory, at least one."""
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


def _can(mode: Mode, model: nn.Module, shape: Shape) -> bool:
    """Whether a trial goes well; one for each network, which a client is given in every round."""
    known = _possible.setdefault(model, {})
    if mode not in known:
        known[mode] = private_training_problem(model, shape, mode) is None
    return known[mode]
