"""The frame of our own rules: they combine the clients' changes of the global model."""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

log = logging.getLogger(__name__)

Vector = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Combined:
    """What a rule made of the changes of a round.

    Attributes:
        change: ``[d]``, of the global model.
        used: Places of the changes that went into it.
    """

    change: Vector
    used: Sequence[int]


class ChangeRule(FedAvg):
    """A Flower strategy that combines changes, each one flat vector over all arrays.

    It keeps the global arrays of the round, which Flower hands to ``configure_train`` alone.
    """

    # A bare array, so that it is no part of what is remembered between rounds.
    _before: Vector

    @abstractmethod
    def combined(self, changes: Sequence[Vector], examples: Vector) -> Combined:
        """Combine the changes.

        Args:
            changes: Of every client, float ``[d]`` each, in order of the clients.
            examples: ``[n]``, how many each of them claims.
        """

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Keep the global arrays, and prepare the round as FedAvg does."""
        self._before = flat(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Move the global arrays by the combined change."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        contents = [message.content for message in valid]
        models = [next(iter(content.array_records.values())) for content in contents]
        metrics = [next(iter(content.metric_records.values())) for content in contents]
        examples = np.asarray([cast(float, each[self.weighted_by_key]) for each in metrics])
        done = self.combined([flat(model) - self._before for model in models], examples)
        if not done.used:
            log.warning(
                "round %d: %s uses none of %d replies and the model stays as it is",
                server_round,
                type(self).__name__,
                len(models),
            )
        arrays = _shaped(self._before + done.change, models[0])
        used = [contents[place] for place in done.used]
        return arrays, self.train_metrics_aggr_fn(used, self.weighted_by_key)


def flat(arrays: ArrayRecord) -> Vector:
    """All arrays as one vector, in their order."""
    return np.concatenate([array.numpy().ravel() for array in arrays.values()])


def norm(vector: Vector) -> float:
    """The L2 norm, in double precision, where no finite float32 overflows."""
    return math.sqrt(float(np.square(vector, dtype=np.float64).sum()))


def weighted_sum(weights: Iterable[float], vectors: Sequence[Vector]) -> Vector:
    """``sum_i w_i v_i`` in double precision."""
    total = np.zeros(vectors[0].shape)
    for weight, vector in zip(weights, vectors, strict=True):
        total += np.multiply(vector, weight, dtype=np.float64)
    return total


def _shaped(vector: Vector, like: ArrayRecord) -> ArrayRecord:
    shapes = {name: array.numpy() for name, array in like.items()}
    ends = np.cumsum([array.size for array in shapes.values()])[:-1]
    parts = np.split(vector, ends)
    return ArrayRecord(
        {
            name: Array(part.reshape(array.shape).astype(array.dtype))
            for part, (name, array) in zip(parts, shapes.items(), strict=True)
        }
    )
