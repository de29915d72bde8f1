"""Bucketing: random groups of clients are averaged before another rule combines the averages.

Karimireddy, He and Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing"
(ICLR 2022, arXiv 2006.09365), algorithm 1.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedlab.core.errors import BadInput
from fedlab.server.byzantine_limits import fitted, refuse_small_cohort
from fedlab.server.changes import ChangeRule, Combined, Vector, flat, shaped, weighted_sum
from fedlab.server.client_momentum import check_momentum, with_momentum
from fedlab.server.strategies import FIXED, make_strategy
from fedlab.server.traits import traits_of

FEWEST = 3
"""Smallest number of buckets among which one can be told from the others."""


class Bucketing(ChangeRule):
    """Another rule, applied to the means of random buckets of clients.

    Means are more alike than single changes of clients with different images, so that a robust rule
    leaves fewer honest clients out. f attackers are in at most f buckets, of which there are fewer
    than clients: the rule has to tolerate f of ``n / size``. The mean of a last bucket with fewer
    clients is that of these clients, where the paper divides by ``size``.

    Args:
        rule: Name of the other rule, or ``package.module:Name``; ``CenteredClipping`` by default.
            Its own options stand beside these ones.
        size: Number of clients in a bucket (s), at least 1; 2 by default, as in the paper.
        momentum: Factor beta of the momentum of every client before its bucket, at least 0 and
            below 1; 0 by default, 0.9 in the paper. The server then keeps one vector for each
            client. With ``size = 1`` it gives any rule the momentum of centered clipping.
        **options: Options of the other rule, and keyword arguments of FedAvg.

    Raises:
        BadInput: If the other rule cannot be made.
        ValueError: If size or momentum is out of range, or the other rule needs root images or
            single clients.
    """

    double_precision = True
    passes_options = True

    def __init__(
        self,
        *,
        rule: str = "CenteredClipping",
        size: int = 2,
        momentum: float = 0.0,
        **options: Any,
    ) -> None:
        if size < 1:
            raise ValueError("size must be at least 1")
        check_momentum(momentum)
        super().__init__(**{key: options.pop(key) for key in FIXED if key in options})
        self.inner = make_strategy(rule, options)
        traits = traits_of(self.inner)
        if traits.needs_root:
            raise ValueError(f"{rule} compares single clients with root images")
        if getattr(self.inner, "follows_clients", False):
            raise ValueError(
                f"{rule} follows single clients over rounds, and a bucket has several; momentum "
                "is an option of Bucketing itself"
            )
        self.size = size
        self.momentum = momentum
        self.momenta: dict[str, Vector] = {}
        self.selects = traits.selects
        self.follows_clients = momentum > 0
        self.fewest_replies = size * (traits.fewest_replies - 1) + 1

    def cohort_problem(self, cohort: int) -> str | None:
        """Reason: too few buckets, or too few for what the other rule has to tolerate."""
        buckets = self._buckets(cohort)
        if self.size > 1 and buckets < FEWEST:
            return f"makes only {buckets} buckets of {cohort} clients: lower size"
        try:
            refuse_small_cohort(self.inner, buckets)
        except BadInput as error:
            return f"makes {buckets} buckets of {cohort} clients: {error}; or lower size"
        return None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let the other rule prepare the round."""
        self._before = flat(arrays)
        # In a tuple, since a bare record would be kept between rounds.
        self._round = (server_round, self._buckets(len(list(grid.get_node_ids()))), arrays)
        return self.inner.configure_train(server_round, arrays, config, grid)

    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Let the other rule combine the buckets, each with the same weight."""
        if self.momentum:
            changes = with_momentum(self.momenta, self.clients, changes, momentum=self.momentum)
        order = np.random.permutation(len(changes)).tolist()
        buckets = [order[start : start + self.size] for start in range(0, len(order), self.size)]
        number, cohort, like = self._round
        contents = [self._content([changes[i] for i in bucket], like) for bucket in buckets]
        messages = [
            Message(content=each, message_type=MessageType.TRAIN, dst_node_id=1)
            for each in contents
        ]
        chosen: set[int] = set()

        def note(used: list[RecordDict], _: str) -> MetricRecord:
            chosen.update(map(id, used))
            return MetricRecord()

        self.inner.train_metrics_aggr_fn = note
        with fitted(self.inner, round=number, replies=len(buckets), cohort=cohort):
            arrays, _ = self.inner.aggregate_train(number, messages)
        if arrays is None:
            raise ValueError(f"{type(self.inner).__name__} returns no model")
        used = [
            member
            for bucket, content in zip(buckets, contents, strict=True)
            for member in bucket
            if not self.selects or id(content) in chosen
        ]
        return Combined(flat(arrays) - self._before, sorted(used))

    def _buckets(self, clients: int) -> int:
        return -(-clients // self.size)

    def _content(self, changes: Sequence[Vector], like: ArrayRecord) -> RecordDict:
        mean = weighted_sum([1 / len(changes)] * len(changes), changes)
        return RecordDict(
            {
                self.inner.arrayrecord_key: shaped(self._before + mean, like, np.float64),
                "metrics": MetricRecord({self.inner.weighted_by_key: 1}),
            }
        )
