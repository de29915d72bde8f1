"""Initial weights whose ReLUs are all off or all on, and the measure that gives them away.

Goldblum et al., "Truth or Backpropaganda?" (arXiv 1910.00359), start networks at biases of -20 and
20. With all ReLUs off only the last bias has a gradient, which tells labels and no image. Where
none changes its state the network is linear.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlab.core.errors import BadInput
from fedlab.core.modes import evaluation


@dataclass(frozen=True)
class Activity:
    """State of a network's ReLUs on some images.

    Attributes:
        active: Share of the units and images, in [0, 1], at which a ReLU is on.
        varying: Share of the units that are on for some of the images and off for others. It is 0
            for a network that is linear on them.
    """

    active: float
    varying: float


def fill_biases(network: nn.Module, value: float) -> None:
    """Set every bias of a network to a value, those of normalisation layers included.

    Raises:
        BadInput: If the network has no bias.
    """
    biases = [p for name, p in network.named_parameters() if name.rpartition(".")[2] == "bias"]
    if not biases:
        raise BadInput("model.bias_start: the network has no bias, leave it out")
    with torch.no_grad():
        for bias in biases:
            bias.fill_(value)


def relu_activity(network: nn.Module, inputs: Tensor) -> Activity:
    """Measure which ReLUs are on, in evaluation mode.

    A client can do so with the weights that it receives and its own images: shares of 0 and 1 come
    from no training, but from a server that wants them.

    Args:
        network: Network whose ReLUs are ``nn.ReLU`` modules; others are not seen.
        inputs: Normalised images, float ``[n, channels, height, width]``.

    Raises:
        BadInput: If the network has no such module.
    """
    on: list[Tensor] = []

    def note(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        on.append((output > 0).flatten(1))

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.ReLU)]
    try:
        with evaluation(network):
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not on:
        raise BadInput("the network has no nn.ReLU module whose state could be measured")
    units = torch.cat(on, dim=1)
    varying = units.any(0) & ~units.all(0)
    return Activity(float(units.double().mean()), float(varying.double().mean()))
