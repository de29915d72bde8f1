"""Base class of aggregation rules that combine the clients' changes of the global model."""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import DTypeLike

log = logging.getLogger(__name__)

Vector = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Combined:
    """Result of combining the changes of a round.

    Attributes:
        change: Change of the global model, float ``[d]``.
        used: Places of the clients' changes that went into it.
    """

    change: Vector
    used: Sequence[int]


class ChangeRule(FedAvg):
    """An aggregation rule that combines changes, each one flat vector over all arrays.

    A subclass implements ``combine`` and states its options as keyword arguments of ``__init__``.
    Its class attributes say what it needs, see ``fedlab.server.traits.RuleTraits``. A scenario
    names it as ``package.module:Name``. Lists and dicts of arrays among the attributes are kept in
    the checkpoint of a run.

    Example:
        >>> class Median(ChangeRule):
        ...     "The median of every entry."
        ...
        ...     def combine(self, changes, examples):
        ...         return np.median(changes, axis=0)
    """

    linear: ClassVar[bool] = False
    selects: bool = False
    needs_root: ClassVar[bool] = False
    follows_clients: bool = False
    """True if the rule keeps something about every client between rounds."""

    clients: Sequence[int]
    """Partition ids of this round's clients, in the order of their changes."""
    # Bare arrays, so that they are no part of what is kept between rounds.
    _before: Vector
    root_change: Vector
    """Change that the server trained itself in this round, float ``[d]``, with ``needs_root``."""

    @abstractmethod
    def combine(self, changes: Sequence[Vector], examples: Vector) -> Combined | Vector:
        """Combine the changes of a round.

        Args:
            changes: Change of every client, float ``[d]`` each, in order of the clients.
            examples: Number of examples that each client claims, ``[n]``.

        Returns:
            The change of the global model, ``[d]``; as ``Combined`` if the rule chooses among the
            clients.
        """

    def cohort_problem(self, cohort: int) -> str | None:
        """Find out why the rule cannot keep its promise in such a cohort; ``None`` if it can.

        Args:
            cohort: Number of clients in a round.

        Returns:
            The rest of a sentence that begins with the name of the rule.
        """
        return None

    def set_root(self, arrays: ArrayRecord) -> None:
        """Take the global arrays of this round after the server trained on its root images."""
        self.root_change = flat(arrays) - self._before

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Keep the global arrays, which Flower passes to no other method, and prepare the round."""
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
        found = self.combine([flat(model) - self._before for model in models], examples)
        done = found if isinstance(found, Combined) else Combined(found, range(len(models)))
        if np.shape(done.change) != self._before.shape:
            raise ValueError(
                f"combine must return a change of shape {list(self._before.shape)}, "
                f"not {list(np.shape(done.change))}"
            )
        if not len(done.used):
            log.warning(
                "round %d: %s uses none of %d replies and the model stays as it is",
                server_round,
                type(self).__name__,
                len(models),
            )
        arrays = shaped(self._before + done.change, models[0])
        used = [contents[place] for place in done.used]
        return arrays, self.train_metrics_aggr_fn(used, self.weighted_by_key)


def flat(arrays: ArrayRecord) -> Vector:
    """Concatenate all arrays to one vector, in their order."""
    return np.concatenate([array.numpy().ravel() for array in arrays.values()])


def norm(vector: Vector) -> float:
    """Compute the L2 norm in double precision, where no finite float32 overflows."""
    return math.sqrt(float(np.square(vector, dtype=np.float64).sum()))


def weighted_sum(weights: Iterable[float], vectors: Sequence[Vector]) -> Vector:
    """Compute ``sum_i w_i v_i`` in double precision."""
    total = np.zeros(vectors[0].shape)
    for weight, vector in zip(weights, vectors, strict=True):
        total += np.multiply(vector, weight, dtype=np.float64)
    return total


def shaped(vector: Vector, like: ArrayRecord, dtype: DTypeLike | None = None) -> ArrayRecord:
    """Split a vector of ``flat`` into named arrays.

    Args:
        vector: Vector ``[d]``.
        like: Arrays that give names and shapes.
        dtype: Type of the result; by default that of each array.
    """
    shapes = {name: array.numpy() for name, array in like.items()}
    ends = np.cumsum([array.size for array in shapes.values()])[:-1]
    parts = np.split(vector, ends)
    return ArrayRecord(
        {
            name: Array(part.reshape(array.shape).astype(dtype or array.dtype))
            for part, (name, array) in zip(parts, shapes.items(), strict=True)
        }
    )
