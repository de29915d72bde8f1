"""Momentum of every client, kept by the server (Karimireddy et al., arXiv 2012.10333)."""

from collections.abc import Sequence

from fedlab.server.changes import Vector


def with_momentum(
    kept: dict[str, Vector], clients: Sequence[int], changes: Sequence[Vector], *, momentum: float
) -> list[Vector]:
    """Average the changes of every client over rounds: ``m_i <- beta m_i + (1 - beta) c_i``.

    It makes honest changes more alike, so that an attacker cannot hide small steps in their spread
    round after round. In the paper the workers compute it (algorithm 2); a server that knows every
    change computes the same. A client's momentum begins with its first change, and stays as it is
    in rounds that the client misses.

    Args:
        kept: Momentum of every client by its partition id as text; it is updated.
        clients: Partition ids of this round's clients.
        changes: Their changes, float ``[d]`` each.
        momentum: Factor beta, at least 0 and below 1.

    Returns:
        The momentum of each of these clients, float ``[d]`` each.
    """
    for client, change in zip(map(str, clients), changes, strict=True):
        before = kept.get(client)
        kept[client] = change if before is None else momentum * before + (1.0 - momentum) * change
    return [kept[str(client)] for client in clients]


def check_momentum(momentum: float) -> None:
    """Refuse a factor that gives no average.

    Raises:
        ValueError: If the factor is below 0, or 1 or more.
    """
    if not 0 <= momentum < 1:
        raise ValueError("momentum must be at least 0 and below 1")
