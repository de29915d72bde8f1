"""FLAME: models that point elsewhere are left out, the others are clipped, and noise is added.

Nguyen et al., "FLAME: Taming Backdoors in Federated Learning" (USENIX Security 2022, arXiv
2101.02281), algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from fedlab.server.changes import ChangeRule, Combined, Vector, norm, weighted_sum


class FLAME(ChangeRule):
    """The mean of a majority of models that point the same way, clipped and with noise.

    1. The clients' models are clustered by their cosine distances (HDBSCAN with clusters of at
       least n/2 + 1), and those outside of the only cluster are left out.
    2. The changes that are left are shortened to the median L2 norm S of all changes.
    3. Gaussian noise of standard deviation ``noise_level * S`` is added to every entry of the mean.

    It tolerates attackers as long as they are less than a half. The noise is meant to blur what is
    left of a backdoor; no epsilon is claimed for it.

    Args:
        noise_level: Standard deviation of the noise over S (lambda), at least 0; 0.001 by default,
            the paper's for images. It is drawn from NumPy's global generator, as Flower's own is.
        **settings: Keyword arguments of FedAvg.

    Raises:
        ValueError: If the noise level is below 0.
    """

    selects = True
    double_precision = True
    fewest_replies = 3

    def __init__(self, *, noise_level: float = 0.001, **settings: Any) -> None:
        if not noise_level >= 0:
            raise ValueError("noise_level must be at least 0")
        super().__init__(**settings)
        self.noise_level = noise_level

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Compute the noisy mean; the claimed numbers of examples do not count."""
        admitted = majority_cluster([self._before + change for change in changes])
        norms = [norm(change) for change in changes]
        bound = float(np.median(norms))
        factors = [min(1.0, bound / norms[i]) if norms[i] > 0 else 1.0 for i in admitted]
        shares = np.asarray(factors) / len(admitted)
        mean = weighted_sum(shares, [changes[i] for i in admitted])
        if self.noise_level:
            mean += np.random.normal(0.0, self.noise_level * bound, mean.shape)
        return Combined(mean, admitted)

    def cohort_problem(self, cohort: int) -> str | None:
        """Reason: of two models, neither is a majority."""
        if cohort >= self.fewest_replies:
            return None
        return f"looks for a majority among 3 or more clients, but a round has {cohort}"


def majority_cluster(vectors: Sequence[Vector]) -> list[int]:
    """Find the cluster that HDBSCAN finds among cosine distances if it must be a majority.

    With ``min_cluster_size = n // 2 + 1``, ``min_samples = 1`` and ``allow_single_cluster``, no
    split has two clusters. What is left is the first one of single linkage that has so many
    members, as the distance grows.

    Args:
        vectors: At least two vectors, float ``[d]`` each.

    Returns:
        Places of the members, at least ``n // 2 + 1``, in ascending order.
    """
    lengths = [norm(vector) for vector in vectors]
    units = np.stack(
        [
            vector / length if length > 0 else vector
            for vector, length in zip(vectors, lengths, strict=True)
        ]
    )
    distances = np.maximum(0.0, 1.0 - units @ units.T)
    np.fill_diagonal(distances, 0.0)
    merges = linkage(squareform(distances, checks=False), "single")
    needed = len(vectors) // 2 + 1
    height = next(row[2] for row in merges if row[3] >= needed)
    labels = fcluster(merges, height, "distance")
    largest = np.bincount(labels).argmax()
    return [int(place) for place in np.flatnonzero(labels == largest)]
