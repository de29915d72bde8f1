"""FoolsGold: clients whose changes are alike over many rounds count less.

Fung, Yoon and Beschastnikh, "Mitigating Sybils in Federated Learning Poisoning" (arXiv 1808.04866;
RAID 2020), algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedlab.server.changes import ChangeRule, Combined, Vector, norm, weighted_sum

ROUNDING = 1e-12
"""Difference of a cosine from 1 below which two histories are the same."""


class FoolsGold(ChangeRule):
    """The mean of the changes, weighted by how little a client's history is like any other one.

    It is made against sybils that pursue one goal, in any number, where honest clients have images
    of different classes. Honest clients with similar images are alike as well, so it leaves them
    out; a single attacker is not like anybody and has full weight.

    A history is the sum of a client's changes. Those of clients that miss a round count in the
    comparison, so that sybils cannot take turns. Differences from the paper: the cosine takes all
    parameters, where the paper prefers those of the last layer; a negative cosine counts as 0,
    since pardoning would turn its sign; the weighted changes are divided by the sum of the weights,
    since clients send the change of a whole round and no single gradient. If all have weight 0, the
    global model stays as it is.

    Args:
        confidence: Factor of the logit (kappa), above 0; 1 by default. A larger one separates
            clients more sharply.
        **settings: Keyword arguments of FedAvg.

    Raises:
        ValueError: If the confidence is not above 0.
    """

    selects = True
    follows_clients = True

    def __init__(self, *, confidence: float = 1.0, **settings: Any) -> None:
        if not confidence > 0:
            raise ValueError("confidence must be above 0")
        super().__init__(**settings)
        self.confidence = confidence
        # In float64, where no sum of float32 overflows.
        self.history: dict[str, Vector] = {}

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Compute the weighted mean; the claimed numbers of examples do not count."""
        clients = [str(client) for client in self.clients]
        for client, change in zip(clients, changes, strict=True):
            before = self.history.get(client, np.zeros(change.shape))
            self.history[client] = before + change
        places = {client: place for place, client in enumerate(self.history)}
        uniqueness = unlike_others(np.stack([*self.history.values()]))
        weights = logit_weights(uniqueness[[places[c] for c in clients]], self.confidence)
        used = [int(place) for place in np.flatnonzero(weights)]
        if not used:
            return Combined(np.zeros(changes[0].shape), [])
        shares = weights[used] / weights.sum()
        return Combined(weighted_sum(shares, [changes[i] for i in used]), used)

    def cohort_problem(self, cohort: int) -> str | None:
        """Reason: a client alone is compared with nobody."""
        if cohort > 1:
            return None
        return "compares clients with each other, but a round has 1: raise server.cohort"


def unlike_others(histories: Vector) -> Vector:
    """Compute one minus the largest cosine of each history to another one, after pardoning.

    Pardoning: the cosine of i to j shrinks by ``v_i / v_j`` where ``v``, the largest cosine of a
    history to any other, is larger for j. It keeps honest clients that are somewhat like a sybil.

    Args:
        histories: Sum of the changes of every client, float64 ``[k, d]``.

    Returns:
        Values from 0 to 1, float64 ``[k]``; 1 for a client that is like nobody.
    """
    lengths = np.asarray([norm(row) for row in histories])[:, None]
    units = np.divide(histories, lengths, out=np.zeros_like(histories), where=lengths > 0)
    cosines = np.clip(units @ units.T, 0.0, 1.0)
    np.fill_diagonal(cosines, 0.0)
    own = cosines.max(1)[:, None]
    others = own.T
    pardon = np.divide(own, others, out=np.ones_like(cosines), where=others > own)
    values: Vector = 1.0 - (cosines * pardon).max(1)
    return values


def logit_weights(uniqueness: Vector, confidence: float) -> Vector:
    """Turn values of ``unlike_others`` into weights from 0 to 1, by the paper's scaled logit.

    Args:
        uniqueness: Values from 0 to 1 of the clients of a round, ``[n]``.
        confidence: Factor of the logit, above 0.
    """
    highest = uniqueness.max()
    if highest < ROUNDING:
        return np.zeros_like(uniqueness)
    # The authors' code takes 0.99 for 1, whose logit is infinite.
    scaled = np.clip(uniqueness / highest, ROUNDING, 0.99)
    weights: Vector = np.clip(confidence * (np.log(scaled / (1 - scaled)) + 0.5), 0.0, 1.0)
    return weights
