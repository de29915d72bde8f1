"""How far a simulated payload is from the captured one."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Objective = Callable[[Mapping[str, Tensor]], Tensor]
"""From a simulated payload by parameter name to a scalar, smaller for a better match."""


def cosine(target: Mapping[str, Tensor]) -> Objective:
    """One minus the cosine between payloads, all tensors taken as one vector.

    1 - <g, g*> / (||g|| ||g*||), Geiping et al. 2020, eq. 4. The target is normalised once, so
    an evaluation costs one dot product and one norm.

    Args:
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the captured payload is zero or not finite.
    """
    norm = float(torch.sqrt(sum_of_squares(target)))
    if not 0 < norm < float("inf"):
        raise ValueError(f"the captured payload has norm {norm}, so it has no direction to match")
    direction = {name: tensor / norm for name, tensor in target.items()}

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        along = torch.stack([(simulated[name] * d).sum() for name, d in direction.items()]).sum()
        return 1 - along * torch.rsqrt(sum_of_squares(simulated))

    return cost


def sum_of_squares(tensors: Mapping[str, Tensor]) -> Tensor:
    """Squared L2 norm of all tensors taken as one vector."""
    return torch.stack([tensor.square().sum() for tensor in tensors.values()]).sum()


OBJECTIVES: dict[str, Callable[[Mapping[str, Tensor]], Objective]] = {"cosine": cosine}
"""Objectives by name; each takes the captured payload."""
