"""FLTrust: clients are trusted as far as they agree with the server's own update.

Cao et al., "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping" (NDSS 2021,
arXiv 2012.13995), algorithm 2.
"""

from collections.abc import Sequence

import numpy as np

from fedlab.server.changes import ChangeRule, Combined, Vector, norm, weighted_sum


class FLTrust(ChangeRule):
    """The mean of the changes, weighted by trust and brought to the norm of the root change.

    With the root change ``g`` that the server trained on clean images of its own, client i has the
    trust ``t_i = max(0, cos(c_i, g))``, and the change is
    ``sum_i t_i (||g|| / ||c_i||) c_i / sum_i t_i``. If nobody is trusted, the global model stays as
    it is. It needs no share of honest clients, but root images that are similar to the clients'.
    """

    selects = True
    needs_root = True

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Compute the trusted mean of the changes; the claimed numbers of examples do not count."""
        length = norm(self.root_change)
        norms = [norm(change) for change in changes]
        trust = np.asarray(
            [
                max(0.0, _inner(change, self.root_change) / (own * length))
                if own * length > 0
                else 0.0
                for change, own in zip(changes, norms, strict=True)
            ]
        )
        trusted = [place for place, each in enumerate(trust) if each > 0]
        if not trusted:
            return Combined(np.zeros_like(self.root_change), [])
        weights = [trust[i] * length / norms[i] / trust.sum() for i in trusted]
        change = weighted_sum(weights, [changes[i] for i in trusted])
        return Combined(change, trusted)


def _inner(one: Vector, other: Vector) -> float:
    return float(np.multiply(one, other, dtype=np.float64).sum())
