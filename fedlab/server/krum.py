"""Multi-Krum and Bulyan as in the papers, which Flower's rules of the same names are not.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (NeurIPS
2017); El Mhamdi et al., "The Hidden Vulnerability of Distributed Learning in Byzantium" (arXiv
1802.07927).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy

from fedlab.protocol.flower import compute_distances


class MultiKrum(strategy.MultiKrum):
    """The mean of the replies with the lowest Krum scores.

    The paper averages the selected replies with equal weights. Flower's rule weighs them by the
    number of examples that clients claim, so that a selected attacker chooses its weight.

    Args:
        num_malicious_nodes: Number of malicious clients f, at least 0; 0 by default.
        num_nodes_to_select: Number of replies that are averaged, at least 1; 1 by default.
        weighted: True to weigh the selected replies by the number of examples, as Flower does.
        **settings: Keyword arguments of FedAvg.
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int = 0,
        num_nodes_to_select: int = 1,
        weighted: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            num_malicious_nodes=num_malicious_nodes,
            num_nodes_to_select=num_nodes_to_select,
            **settings,
        )
        self.weighted = weighted

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the selected replies."""
        messages = list(replies)
        if not self.weighted:
            for message in messages:
                for metrics in message.content.metric_records.values():
                    metrics[self.weighted_by_key] = 1
        return super().aggregate_train(server_round, messages)


class Bulyan(strategy.Bulyan):
    """The mean of the values closest to the median, among replies that Krum selects one by one.

    The paper runs Krum anew after each selection, on the replies that are left. Flower's rule
    computes the scores once and takes the lowest ones.

    Args:
        num_malicious_nodes: Number of malicious clients f, at least 0; 0 by default.
        **settings: Keyword arguments of FedAvg.
    """

    def __init__(self, *, num_malicious_nodes: int = 0, **settings: Any) -> None:
        super().__init__(
            num_malicious_nodes=num_malicious_nodes,
            selection_rule=select_by_repeated_krum,
            **settings,
        )


def select_by_repeated_krum(
    contents: list[RecordDict], num_malicious_nodes: int, num_nodes_to_select: int
) -> list[RecordDict]:
    """Select the reply with the lowest Krum score, remove it, and repeat.

    The score of one of m replies is the sum of its squared distances to the m - f - 2 nearest
    others, but to at least f of them: of the last m = 2 f + 1 replies it would be f - 1, which f
    attackers that send the same can be to each other.

    Args:
        contents: Contents of the replies.
        num_malicious_nodes: Number of malicious clients f.
        num_nodes_to_select: Number of replies to select.
    """
    distances = compute_distances([next(iter(each.array_records.values())) for each in contents])
    np.fill_diagonal(distances, np.inf)  # a reply is no neighbour of itself
    left, selected = list(range(len(contents))), []
    for _ in range(num_nodes_to_select):
        nearest = max(1, num_malicious_nodes, len(left) - num_malicious_nodes - 2)
        among = np.sort(distances[np.ix_(left, left)], axis=1)
        best = left[int(among[:, :nearest].sum(axis=1).argmin())]
        left.remove(best)
        selected.append(contents[best])
    return selected
