"""Sign flipping: the opposite of the honest change."""

from torch import Tensor


def sign_flip(change: Tensor, *, factor: float = 1.0) -> Tensor:
    """Reverse a change: ``-factor * change``.

    Args:
        change: Change of an honest client, float ``[d]``.
        factor: Factor, above 0; 1 to 10 in the literature. Large factors show in the norm.

    Raises:
        ValueError: If the factor is not above 0.

    Example:
        >>> import torch
        >>> sign_flip(torch.tensor([1.0, -2.0]), factor=3.0)
        tensor([-3.,  6.])
    """
    if not factor > 0:
        raise ValueError(f"the factor of a sign flip must be above 0, not {factor}")
    return -factor * change
