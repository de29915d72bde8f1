"""A little is enough: a shift within the spread of honest changes (arXiv 1902.06156).

Baruch et al., NeurIPS 2019, algorithm 1.
"""

from statistics import NormalDist

from torch import Tensor


def little_is_enough(changes: Tensor, *, z: float) -> Tensor:
    """Move the honest mean by z standard deviations in every coordinate: ``mu - z sigma``.

    Args:
        changes: Honest changes that the colluding clients know, float ``[m, d]``.
        z: Number of standard deviations; ``largest_z`` is the largest that a majority vote accepts,
            and the authors' code has 1.5.

    Returns:
        The change that every colluding client sends, float ``[d]``.
    """
    # The authors divide by m, so that a single known change has no spread.
    return changes.mean(0) - z * changes.std(0, correction=0)


def largest_z(clients: int, malicious: int) -> float:
    """Return the largest z for which enough honest changes lie further out in every coordinate.

    ``sup { z : Phi(z) < (n - m - s) / (n - m) }`` with ``s = floor(n / 2 + 1) - m``: the s honest
    changes that complete a majority are expected beyond it.

    A table of z by m in public code (3: 0.69847, 5: 0.7054, 8: 0.71904, 10: 0.72575, 12: 0.73891)
    contains Phi of that quantile instead of its inverse (Phi(0.60) = 0.72575); it is not this z.

    Args:
        clients: Number n of clients in a round.
        malicious: Number m of colluding clients, at least 1 and no majority.

    Returns:
        The largest z, at least 0; 0 means that no shift stays unnoticed.

    Raises:
        ValueError: If no client is malicious, or a majority is.

    Example:
        >>> round(largest_z(50, 24), 3)
        1.426
    """
    supporters = clients // 2 + 1 - malicious
    if malicious < 1 or supporters < 1:
        raise ValueError(
            f"z needs at least one attacker and no majority, not {malicious} of {clients} clients"
        )
    honest = clients - malicious
    quantile = (honest - supporters) / honest
    return NormalDist().inv_cdf(quantile) if quantile > 0.5 else 0.0
