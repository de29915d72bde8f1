"""Inner product manipulation: the reversed mean of honest changes (arXiv 1903.03936).

Xie et al., "Fall of Empires", UAI 2019.
"""

from torch import Tensor


def inner_product(changes: Tensor, *, epsilon: float) -> Tensor:
    """Reverse and scale the honest mean: ``-epsilon * mu``.

    With m colluding and n - m honest clients the plain average reverses if
    ``epsilon > (n - m) / m``; below that it only shrinks.

    Args:
        changes: Honest changes that the colluding clients know, float ``[m, d]``.
        epsilon: Factor, above 0; 0.1 to 0.5 stays unnoticed, above 1 is easy to see.

    Returns:
        The change that every colluding client sends, float ``[d]``.

    Raises:
        ValueError: If epsilon is not above 0.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0 to reverse the mean, not {epsilon}")
    return -epsilon * changes.mean(0)
