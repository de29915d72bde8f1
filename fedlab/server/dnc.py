"""Divide and conquer: changes that stand out along the main direction of spread are dropped.

Shejwalkar and Houmansadr, "Manipulating the Byzantine" (NDSS 2021), algorithm 2.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab.server.changes import ChangeRule, Combined, Vector, weighted_sum

log = logging.getLogger(__name__)


class DnC(ChangeRule):
    """The mean of the changes that are no outliers on any of several random sets of coordinates.

    On each set the changes are centred, an outlier score is the squared projection on the top
    right singular vector, and the ``filtering * f`` highest are dropped. What is kept every time is
    averaged with equal weights; if nothing is, the global model stays as it is. A round with too
    few replies for f attackers tolerates the most that are less than a half.

    Args:
        num_malicious_nodes: Number of malicious clients f, at least 1 and less than a half of a
            round; 1 by default.
        filtering: Number of dropped changes over f (c), so that at least 1 is dropped and 1 is
            left; 1 by default.
        iterations: Number of random sets, at least 1; 1 by default. The three defaults are those of
            the bench Blades.
        coordinates: Number of coordinates in a set (b), at least 1; 10,000 by default. They are
            drawn from NumPy's global generator.
        **settings: Keyword arguments of FedAvg.

    Raises:
        ValueError: If one of the numbers is out of range.
    """

    selects = True

    def __init__(
        self,
        *,
        num_malicious_nodes: int = 1,
        filtering: float = 1.0,
        iterations: int = 1,
        coordinates: int = 10_000,
        **settings: Any,
    ) -> None:
        for name, value in (
            ("num_malicious_nodes", num_malicious_nodes),
            ("iterations", iterations),
            ("coordinates", coordinates),
            ("filtering times num_malicious_nodes", filtering * num_malicious_nodes),
        ):
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1")
        super().__init__(**settings)
        self.num_malicious_nodes = num_malicious_nodes
        self.filtering = filtering
        self.iterations = iterations
        self.coordinates = coordinates

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Compute the mean of what is kept; the claimed numbers of examples do not count."""
        count, size = len(changes), len(changes[0])
        kept = set(range(count))
        left = count - self._dropped(count)
        for _ in range(self.iterations):
            chosen = np.random.choice(size, min(self.coordinates, size), replace=False)
            scores = outlier_scores(np.stack([change[chosen] for change in changes]))
            kept &= set(np.argsort(scores, kind="stable")[:left].tolist())
        used = sorted(kept)
        if not used:
            return Combined(np.zeros(size), [])
        return Combined(weighted_sum([1 / len(used)] * len(used), [changes[i] for i in used]), used)

    def cohort_problem(self, cohort: int) -> str | None:
        """Reason: attackers that are a half are no outliers, or nothing would be left."""
        malicious = self.num_malicious_nodes
        if cohort < 2 * malicious + 1:
            most = (cohort - 1) // 2
            lower = f"lower num_malicious_nodes to {most} or " if most else ""
            return (
                f"tolerates {malicious} malicious clients among {2 * malicious + 1} or more "
                f"(2 f + 1), but a round has {cohort}: {lower}raise server.cohort"
            )
        if int(self.filtering * malicious) >= cohort:
            return f"drops all {cohort} clients of a round: lower filtering"
        return None

    def _dropped(self, count: int) -> int:
        malicious = min(self.num_malicious_nodes, (count - 1) // 2)
        if malicious < self.num_malicious_nodes:
            log.warning(
                "DnC has %d replies, too few for %d malicious clients; it tolerates %d",
                count,
                self.num_malicious_nodes,
                malicious,
            )
        return min(int(self.filtering * malicious), count - 1)


def outlier_scores(rows: Vector) -> Vector:
    """Compute the squared projection of each centred row on their top right singular vector.

    With the Gram matrix ``X X^T = U S^2 U^T`` of the centred rows, the projection of row i is
    ``S_1 U_i1``, so that the long vector itself is not needed.

    Args:
        rows: float ``[n, b]``.

    Returns:
        Scores, float64 ``[n]``.
    """
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    squares, vectors = np.linalg.eigh(centred @ centred.T)
    scores: Vector = squares[-1] * np.square(vectors[:, -1])
    return scores
