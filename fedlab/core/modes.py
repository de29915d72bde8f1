"""Training and evaluation mode of a network, borrowed and put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Put the mode of every module back, whatever was done to it."""
    # Module by module: a plain train() would also wake layers that were frozen on purpose.
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's mode is put back afterwards."""
    with kept_modes(network), torch.no_grad():
        network.eval()
        yield
