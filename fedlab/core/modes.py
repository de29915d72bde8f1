"""Temporary changes of a network's training and evaluation modes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Restore the mode of every module after the block."""
    # Module by module: a plain train() would also unfreeze layers in evaluation mode on purpose.
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluate without gradients within the block, and restore every module's mode afterwards."""
    with kept_modes(network), torch.no_grad():
        network.eval()
        yield
