"""Set a network to training or evaluation mode for the duration of an attack."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set the mode of the network, and restore the mode of each module afterwards.

    Args:
        model: The network.
        training: True for training mode, False for evaluation mode.
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, own in before:
            module.training = own
