"""FLTrust: clients are believed as far as they agree with the server's own update.

Cao et al., "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping" (NDSS 2021,
arXiv 2012.13995), algorithm 2.
"""

from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord

from fedlab.server.changes import ChangeRule, Combined, Vector, flat, norm, weighted_sum


class FLTrust(ChangeRule):
    """The mean of the changes, weighted by trust and brought to the norm of the root change.

    With the root change ``g`` that the server trained on clean images of its own, client i has the
    trust ``t_i = max(0, cos(c_i, g))``, and the change is
    ``sum_i t_i (||g|| / ||c_i||) c_i / sum_i t_i``. If nobody is trusted, the global model stays as
    it is. It asks for no share of honest clients, but for root images like the clients'.
    """

    # Bare arrays, so that they are no part of what is remembered between rounds.
    _root: Vector

    def trained(self, arrays: ArrayRecord) -> None:
        """Take the global arrays of this round after training on the root images."""
        self._root = flat(arrays) - self._before

    def combined(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """The trusted mean of the changes; what clients claim does not count."""
        length = norm(self._root)
        norms = [norm(change) for change in changes]
        trust = np.asarray(
            [
                max(0.0, _inner(change, self._root) / (own * length)) if own * length > 0 else 0.0
                for change, own in zip(changes, norms, strict=True)
            ]
        )
        trusted = [place for place, each in enumerate(trust) if each > 0]
        if not trusted:
            return Combined(np.zeros_like(self._root), [])
        weights = [trust[i] * length / norms[i] / trust.sum() for i in trusted]
        change = weighted_sum(weights, [changes[i] for i in trusted])
        return Combined(change, trusted)


def _inner(one: Vector, other: Vector) -> float:
    return float(np.multiply(one, other, dtype=np.float64).sum())
