"""The geometric median of the changes: robust federated aggregation, RFA (arXiv 1912.13445)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab.server.changes import ChangeRule, Combined, Vector, norm, weighted_sum


class GeometricMedian(ChangeRule):
    """The point with the smallest sum of distances to all changes, by smoothed Weiszfeld steps.

    ``v <- sum_i b_i c_i / sum_i b_i`` with ``b_i = a_i / max(eps, ||v - c_i||)`` (algorithm 2).
    Attackers can move it by a bounded distance as long as their weight is less than a half. The
    paper starts at the mean; this starts at the global model itself, which no attacker can move.

    Args:
        iterations: Largest number of Weiszfeld steps, at least 1; 200 by default.
        eps: Smallest distance in the weights, and length of the step at which the search ends;
            above 0, 1e-6 by default.
        weighted: True to weigh changes (``a_i``) by the number of examples that clients claim, as
            the paper does; an attacker then chooses its weight, up to ``server.cap_examples``.
        **settings: Keyword arguments of FedAvg.

    Raises:
        ValueError: If iterations or eps is out of range.
    """

    def __init__(
        self,
        *,
        iterations: int = 200,
        eps: float = 1e-6,
        weighted: bool = False,
        **settings: Any,
    ) -> None:
        if iterations < 1:
            raise ValueError("iterations must be at least 1")
        if not eps > 0:
            raise ValueError("eps must be above 0")
        super().__init__(**settings)
        self.iterations = iterations
        self.eps = eps
        self.weighted = weighted

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Compute the geometric median of the changes."""
        shares = examples if self.weighted else np.ones(len(changes))
        point = np.zeros(changes[0].shape)
        for _ in range(self.iterations):
            distances = np.asarray([norm(point - change) for change in changes])
            pulls = shares / np.maximum(distances, self.eps)
            moved = weighted_sum(pulls / pulls.sum(), changes)
            step, point = norm(moved - point), moved
            if step <= self.eps:
                break
        return Combined(point, range(len(changes)))
