"""Inner product manipulation: a change that points against the honest mean (arXiv 1903.03936).

Xie et al., "Fall of Empires", UAI 2019.
"""

from torch import Tensor


def inner_product(changes: Tensor, *, epsilon: float) -> Tensor:
    """The honest mean, reversed and scaled: ``-epsilon * mu``.

    Among m colluding and n - m honest clients the plain mean turns round once
    ``epsilon > (n - m) / m``; below that it only shrinks.

    Args:
        changes: ``[m, d]``, the honest changes that the colluding clients know.
        epsilon: Above 0; 0.1 to 0.5 hides among the honest, above 1 shows.

    Returns:
        ``[d]``, to be sent by every colluding client alike.

    Raises:
        ValueError: If epsilon is not above 0.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon {epsilon} leaves the direction as it is: it must be above 0")
    return -epsilon * changes.mean(0)
