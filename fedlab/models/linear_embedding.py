"""A deep ReLU network that computes a linear classifier: a local minimum that is not global.

Construction of Goldblum et al., "Truth or Backpropaganda?" (arXiv 1910.00359). Around these weights
every ReLU stays on, so the loss is that of a deep linear network, and the best linear classifier is
a minimum of it. Networks that use their ReLUs fit better elsewhere.
"""

import torch
from torch import Tensor, nn


def embed_linear(weight: Tensor, bias: Tensor, *, hidden: int, shift: float) -> nn.Sequential:
    """Make a network with ReLUs that computes ``weight @ x + bias`` for inputs above ``-shift``.

    Every hidden layer is the identity. The first adds ``shift`` to the inputs, which keeps all
    ReLUs on, and the last bias takes it away again.

    Args:
        weight: Weights of the linear classifier, float ``[classes, inputs]``.
        bias: Its bias, float ``[classes]``.
        hidden: Number of hidden layers, at least 1, each with as many units as there are inputs.
        shift: Number above the largest negative input, such as 2.

    Returns:
        A network that flattens its inputs, in the precision of the weights.

    Example:
        >>> network = embed_linear(torch.eye(2), torch.zeros(2), hidden=2, shift=2.0)
        >>> network(torch.tensor([[-1.0, 3.0]])).tolist()
        [[-1.0, 3.0]]
    """
    classes, inputs = weight.shape
    layers: list[nn.Module] = [nn.Flatten()]
    with torch.no_grad():
        for number in range(hidden):
            identity = nn.Linear(inputs, inputs, dtype=weight.dtype)
            identity.weight.copy_(torch.eye(inputs))
            identity.bias.fill_(0.0 if number else shift)
            layers += [identity, nn.ReLU()]
        last = nn.Linear(inputs, classes, dtype=weight.dtype)
        last.weight.copy_(weight)
        last.bias.copy_(bias - shift * weight.sum(1))
    return nn.Sequential(*layers, last)
