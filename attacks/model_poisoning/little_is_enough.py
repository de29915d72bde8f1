"""A little is enough: a shift within the spread of the honest changes (arXiv 1902.06156).

Baruch et al., NeurIPS 2019, algorithm 1.
"""

from statistics import NormalDist

from torch import Tensor


def little_is_enough(changes: Tensor, *, z: float) -> Tensor:
    """The honest mean, moved in every coordinate by z standard deviations: ``mu - z sigma``.

    Args:
        changes: ``[m, d]``, the honest changes that the colluding clients know.
        z: How far; ``largest_z`` gives what a majority vote would still take for honest, and the
            authors' code has 1.5.

    Returns:
        ``[d]``, to be sent by every colluding client alike.
    """
    # The authors divide by m, so that a single known change has no spread.
    return changes.mean(0) - z * changes.std(0, correction=0)


def largest_z(clients: int, malicious: int) -> float:
    """The z at which, in every coordinate, enough honest changes lie still further out.

    ``sup { z : Phi(z) < (n - m - s) / (n - m) }`` with ``s = floor(n / 2 + 1) - m``: the s honest
    changes that the colluding ones need for a majority are expected beyond it.

    A table of z by m in public code (3: 0.69847, 5: 0.7054, 8: 0.71904, 10: 0.72575, 12: 0.73891)
    holds Phi of that quantile where its inverse is meant (Phi(0.60) = 0.72575); it is not this z.

    Args:
        clients: n, all clients of a round.
        malicious: m of them, at least 1 and no majority.

    Returns:
        At least 0: where the formula is below it, no shift away from the mean is hidden.

    Raises:
        ValueError: If nobody is malicious, or a majority.

    Example:
        >>> round(largest_z(50, 24), 3)
        1.426
    """
    supporters = clients // 2 + 1 - malicious
    if malicious < 1 or supporters < 1:
        raise ValueError(
            f"{malicious} of {clients} clients: z is for at least one attacker and no majority"
        )
    honest = clients - malicious
    quantile = (honest - supporters) / honest
    return NormalDist().inv_cdf(quantile) if quantile > 0.5 else 0.0
