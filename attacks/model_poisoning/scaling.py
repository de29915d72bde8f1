"""Scaling an update so that it outweighs the others: model replacement.

Bagdasaryan et al., "How To Backdoor Federated Learning" (AISTATS 2020), eq. 3.
"""

from torch import Tensor


def scale(change: Tensor, *, factor: float) -> Tensor:
    """Multiply the change of the global model by a factor: X - G becomes ``factor * (X - G)``.

    Args:
        change: Change of an honest client, float ``[d]``.
        factor: With n clients of equal weight, n replaces the global model by the client's.

    Returns:
        A new vector of the same shape.
    """
    return factor * change
