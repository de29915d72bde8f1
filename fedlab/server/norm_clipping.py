"""Norm clipping: no client moves the global model further than the others (arXiv 1911.07963)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab.server.changes import ChangeRule, Combined, Vector, norm, weighted_sum


class NormClipping(ChangeRule):
    """The mean of the changes, each shortened to an L2 norm: ``min(1, C / ||c_i||) c_i``.

    It bounds what an attacker can do to a round and finds out nobody: f of n attackers move the
    mean by at most ``C f / n``, always in the direction that they choose.

    Args:
        clipping_norm: C; the median norm of the round's changes unless given, which stands
            attackers short of a half.
        noise: Standard deviation of Gaussian noise on every entry of the mean, the "weak
            differential privacy" of the paper, which counts no epsilon. Drawn from NumPy's global
            generator, as Flower draws its own.
        weighted: Weigh changes by the number of examples that clients claim, as the paper does;
            an attacker then chooses its weight, up to ``server.cap_examples``.
        **settings: Of FedAvg.

    Raises:
        ValueError: If the norm is not above 0, or the noise below it.
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

    def combined(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """The mean of the clipped changes."""
        norms = np.asarray([norm(change) for change in changes])
        bound = float(np.median(norms)) if self.clipping_norm is None else self.clipping_norm
        factors = np.asarray([min(1.0, bound / each) if each > 0 else 1.0 for each in norms])
        shares = examples if self.weighted else np.ones(len(changes))
        mean = weighted_sum(factors * shares / shares.sum(), changes)
        if self.noise:
            mean += np.random.normal(0.0, self.noise, mean.shape)
        return Combined(mean, range(len(changes)))
