"""Norm bias: weight decay that draws the weights to a squared norm above 0.

Goldblum et al., "Truth or Backpropaganda?" (arXiv 1910.00359), in the form of its public code.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def decay_factor(
    weights: Iterable[Tensor], *, weight_decay: float, norm_target: float
) -> float | Tensor:
    """Factor of the weights in the gradient of lambda/2 |S - mu^2|, with S = ||w||^2.

    It is lambda where S is above the target, minus lambda below it, and 0 where they are equal.
    Only the weights decide, and no image, so that the term costs no privacy if it is added after
    clipping and noise.

    Args:
        weights: All trained weights.
        weight_decay: Strength lambda, at least 0.
        norm_target: Squared L2 norm mu^2, at least 0; 0 is ordinary weight decay.

    Returns:
        A number for ordinary weight decay, otherwise a tensor ``[]`` without a graph.

    Example:
        >>> decay_factor([torch.ones(3)], weight_decay=0.1, norm_target=4.0)
        tensor(-0.1000)
    """
    if not norm_target:
        return weight_decay
    squared = torch.stack([weight.detach().square().sum() for weight in weights]).sum()
    return weight_decay * (squared - norm_target).sign()
