"""Norm clipping: no client moves the global model further than the others (arXiv 1911.07963)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab.server.changes import ChangeRule, Combined, Vector, norm, weighted_sum


class NormClipping(ChangeRule):
    """The mean of the changes, each shortened to an L2 norm: ``min(1, C / ||c_i||) c_i``.

    It bounds the influence of attackers without finding them: f of n attackers move the mean by at
    most ``C f / n``, in a direction that they choose.

    Args:
        clipping_norm: Largest L2 norm C of a change, above 0; by default the median norm of the
            round's changes, which tolerates attackers as long as they are less than a half.
        noise: Standard deviation, at least 0, of Gaussian noise on every entry of the mean: the
            "weak differential privacy" of the paper, for which no epsilon is claimed. It is drawn
            from NumPy's global generator, as Flower's own noise is.
        weighted: True to weigh changes by the number of examples that clients claim, as the paper
            does; an attacker then chooses its weight, up to ``server.cap_examples``.
        **settings: Keyword arguments of FedAvg.

    Raises:
        ValueError: If the norm or the noise is out of range.
    """

    def __init__(
        self,
        *,
        clipping_norm: float | None = None,
        noise: float = 0.0,
        weighted: bool = False,
        **settings: Any,
    ) -> None:
        if clipping_norm is not None and not clipping_norm > 0:
            raise ValueError("clipping_norm must be above 0")
        if not noise >= 0:
            raise ValueError("noise must be at least 0")
        super().__init__(**settings)
        self.clipping_norm = clipping_norm
        self.noise = noise
        self.weighted = weighted

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Compute the mean of the clipped changes."""
        norms = np.asarray([norm(change) for change in changes])
        bound = float(np.median(norms)) if self.clipping_norm is None else self.clipping_norm
        factors = np.asarray([min(1.0, bound / each) if each > 0 else 1.0 for each in norms])
        shares = examples if self.weighted else np.ones(len(changes))
        mean = weighted_sum(factors * shares / shares.sum(), changes)
        if self.noise:
            mean += np.random.normal(0.0, self.noise, mean.shape)
        return Combined(mean, range(len(changes)))
