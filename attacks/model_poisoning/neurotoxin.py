"""Neurotoxin: an update that leaves alone what honest clients change most (arXiv 2206.10341).

Zhang et al., "Neurotoxin: Durable Backdoors in Federated Learning" (ICML 2022), algorithm 1.
"""

import math

from torch import Tensor


def off_heavy_coordinates(change: Tensor, observed: Tensor, *, share: float) -> Tensor:
    """Set the coordinates to 0 that the observed change of the global model moved most.

    Honest clients of later rounds rarely change the other coordinates, so that a backdoor there
    lasts longer.

    Args:
        change: Change of the attacking client, float ``[d]``.
        observed: Change of the global model in an earlier round, float ``[d]``.
        share: Share k of the coordinates that are set to 0, above 0 and below 1, rounded up.

    Returns:
        The projected change, float ``[d]``.

    Raises:
        ValueError: If the share is out of range, or the lengths differ.

    Example:
        >>> import torch
        >>> observed = torch.tensor([0.1, -3.0, 0.2, 1.0])
        >>> off_heavy_coordinates(torch.ones(4), observed, share=0.5)
        tensor([1., 0., 1., 0.])
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of coordinates must be above 0 and below 1, not {share}")
    if change.shape != observed.shape:
        raise ValueError(
            f"changes of shapes {tuple(change.shape)} and {tuple(observed.shape)} do not match"
        )
    # Stable, so that ties do not depend on the device.
    heavy = observed.abs().argsort(descending=True, stable=True)[: math.ceil(share * len(change))]
    return change.index_fill(0, heavy.to(change.device), 0.0)
