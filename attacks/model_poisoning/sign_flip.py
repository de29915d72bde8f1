"""Sending the opposite of the honest change."""

from torch import Tensor


def sign_flip(change: Tensor, *, factor: float = 1.0) -> Tensor:
    """A change in the opposite direction: ``-factor * change``.

    Args:
        change: ``[d]``, that of an honest client.
        factor: Above 0; 1 to 10 in the literature. Large ones are easy to see by their norm.

    Raises:
        ValueError: If the factor is not above 0.

    Example:
        >>> import torch
        >>> sign_flip(torch.tensor([1.0, -2.0]), factor=3.0)
        tensor([-3.,  6.])
    """
    if not factor > 0:
        raise ValueError(f"a factor of {factor} flips no sign: it must be above 0")
    return -factor * change
