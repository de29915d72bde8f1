"""Centered clipping: changes are clipped around the last one of the global model.

Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust Optimization" (ICML 2021,
arXiv 2012.10333), section 4 and algorithm 2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab.server.changes import ChangeRule, Combined, Vector, norm, weighted_sum
from fedlab.server.client_momentum import check_momentum, with_momentum


class CenteredClipping(ChangeRule):
    """The last change of the global model, moved by the mean of what the clients differ from it.

    ``v <- v + 1/n sum_i (c_i - v) min(1, radius / ||c_i - v||)``, from the ``v`` of the round
    before, and from 0 in the first. f of n attackers move it by at most ``radius f / n``.

    The paper proves convergence with momentum at the workers; without it, attackers can hide in the
    spread of honest changes round after round. Its radius is a constant that suits one network; the
    default here follows the changes, and tolerates attackers as long as they are less than a half.

    Args:
        radius: Largest L2 distance from ``v`` that counts, above 0; by default the median distance
            of the round's changes.
        iterations: Number of such steps in a round, at least 1; 1 by default, as in the paper.
        momentum: Factor beta of the momentum of every client, at least 0 and below 1; 0 by default,
            0.9 in the paper. The server then keeps one vector for each client.
        **settings: Keyword arguments of FedAvg.

    Raises:
        ValueError: If radius, iterations or momentum is out of range.
    """

    def __init__(
        self,
        *,
        radius: float | None = None,
        iterations: int = 1,
        momentum: float = 0.0,
        **settings: Any,
    ) -> None:
        if radius is not None and not radius > 0:
            raise ValueError("radius must be above 0")
        if iterations < 1:
            raise ValueError("iterations must be at least 1")
        check_momentum(momentum)
        super().__init__(**settings)
        self.radius = radius
        self.iterations = iterations
        self.momentum = momentum
        self.follows_clients = momentum > 0
        # In a list and a dict, which are kept between rounds.
        self.reference: list[Vector] = []
        self.momenta: dict[str, Vector] = {}

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Compute the next reference; the claimed numbers of examples do not count."""
        if self.momentum:
            changes = with_momentum(self.momenta, self.clients, changes, momentum=self.momentum)
        point = self.reference[0] if self.reference else np.zeros(changes[0].shape)
        for _ in range(self.iterations):
            distances = np.asarray([norm(change - point) for change in changes])
            radius = float(np.median(distances)) if self.radius is None else self.radius
            factors = np.asarray(
                [min(1.0, radius / each) if each > 0 else 1.0 for each in distances]
            )
            shares = factors / len(changes)
            point = (1.0 - shares.sum()) * point + weighted_sum(shares, changes)
        self.reference = [point]
        return Combined(point, range(len(changes)))
