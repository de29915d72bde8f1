"""Neurotoxin: training that leaves alone what honest clients change most (arXiv 2206.10341).

Zhang et al., "Neurotoxin: Durable Backdoors in Federated Learning" (ICML 2022), algorithm 1.
"""

import math

from torch import Tensor


def light_coordinates(observed: Tensor, *, share: float) -> Tensor:
    """Select the coordinates that the observed change of the global model moved least.

    Honest clients of later rounds rarely change them, so that a backdoor there lasts longer.

    Args:
        observed: Change of the global model in an earlier round, float ``[d]``.
        share: Share k of the coordinates that are left out, above 0 and below 1, rounded up.

    Returns:
        0 for the coordinates that it moved most, 1 for the others, float ``[d]``.

    Raises:
        ValueError: If the share is out of range.

    Example:
        >>> import torch
        >>> light_coordinates(torch.tensor([0.1, -3.0, 0.2, 1.0]), share=0.5)
        tensor([1., 0., 1., 0.])
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of coordinates must be above 0 and below 1, not {share}")
    # Stable, so that ties do not depend on the device.
    heavy = observed.abs().argsort(descending=True, stable=True)[: math.ceil(share * len(observed))]
    return observed.new_ones(len(observed)).index_fill(0, heavy, 0.0)
