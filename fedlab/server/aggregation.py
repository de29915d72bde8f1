"""Any FedAvg-derived strategy of Flower, made by name, fed checked replies, and resumable."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, strategy
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from fedlab.errors import BadInput, RunFailed
from fedlab.server.checks import Reply

STRATEGIES: dict[str, type[FedAvg]] = {
    name: found
    for name, found in vars(strategy).items()
    if inspect.isclass(found) and issubclass(found, FedAvg) and "Xgb" not in name
}
"""Flower's aggregation rules for weights, by class name."""

OURS: dict[str, Any] = {
    "fraction_train": 1.0,  # the cohort is sampled by partition id before Flower sees it
    "fraction_evaluate": 1.0,  # never used: the server evaluates the global model itself
    "min_train_nodes": 1,
    "min_evaluate_nodes": 0,
    "min_available_nodes": 1,
}


class Aggregation:
    """One Flower strategy and its memory, such as momentum.

    Args:
        name: A key of ``STRATEGIES``.
        options: Keyword arguments of that class.

    Raises:
        BadInput: If there is no such strategy, or it does not take these options.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        if name not in STRATEGIES:
            raise BadInput(
                f'server.strategy "{name}" is unknown; known: {", ".join(sorted(STRATEGIES))}'
            )
        known = set(inspect.signature(STRATEGIES[name]).parameters) - set(OURS)
        if unknown := sorted(set(options) - known):
            offered = sorted(key for key in known if not key.endswith(("_key", "_fn")))
            raise BadInput(
                f"{name} has no option {unknown[0]}; it has {', '.join(offered) or 'none'}"
            )
        try:
            self._inner = STRATEGIES[name](**OURS, **options)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{name} cannot be made with these options: {error}") from error

    def configure(
        self, round: int, state: Mapping[str, Tensor], grid: Grid, nodes: Sequence[int]
    ) -> ConfigRecord:
        """Let the strategy prepare a round for these nodes.

        Returns:
            What it wants its clients to know, such as FedProx' ``proximal-mu``.
        """
        messages = list(
            self._inner.configure_train(
                round, _record(state), ConfigRecord(), cast(Grid, _Cohort(grid, nodes))
            )
        )
        return messages[0].content.config_records[self._inner.configrecord_key]

    def aggregate(
        self, round: int, replies: Sequence[tuple[Message, Reply, Mapping[str, Tensor]]]
    ) -> dict[str, Tensor]:
        """Combine the clients' models.

        Args:
            round: Counted from 1.
            replies: In order of the clients: each message, what was read in it, and the
                arrays to average.

        Returns:
            The new arrays by name.

        Raises:
            RunFailed: If the strategy refuses, as Bulyan does with too few clients.
        """
        for message, reply, arrays in replies:
            message.content = RecordDict(
                {
                    self._inner.arrayrecord_key: _record(arrays),
                    "metrics": MetricRecord(
                        {self._inner.weighted_by_key: reply.payload.num_examples}
                    ),
                }
            )
        try:
            merged, _ = self._inner.aggregate_train(round, [message for message, _, _ in replies])
        except (AggregationError, ValueError) as error:
            raise RunFailed(f"round {round}: {type(self._inner).__name__}: {error}") from error
        if merged is None:
            raise RunFailed(f"round {round}: {type(self._inner).__name__} gave no model")
        # Some rules compute in float64; the model goes on in the precision that it has.
        return {
            name: torch.from_numpy(array.numpy().copy()).to(replies[0][2][name].dtype)
            for name, array in merged.items()
        }

    def memory(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything that the strategy remembers between rounds, by a path of names."""
        return {
            f"{attribute}/{part}/{place:06d}/{name}": array
            for attribute, value in sorted(vars(self._inner).items())
            for part, arrays in [_arrays(value)]
            for place, (name, array) in enumerate(arrays.items())
        }

    def recall(self, memory: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Give back what ``memory`` returned, to a strategy made with the same options."""
        kept: dict[tuple[str, str], dict[str, np.ndarray[Any, Any]]] = {}
        # In order of their places: Flower's rules go through their arrays by position.
        for path, array in sorted(memory.items()):
            attribute, part, _, name = path.split("/", 3)
            kept.setdefault((attribute, part), {})[name] = array
        for (attribute, part), arrays in kept.items():
            setattr(self._inner, attribute, _value(part, arrays))


class _Cohort:
    """A grid in which only the nodes of this round's cohort can be seen."""

    def __init__(self, grid: Grid, nodes: Iterable[int]) -> None:
        self._grid = grid
        self._nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        return self._nodes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)


def _record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    return ArrayRecord({name: Array(tensor.cpu().numpy()) for name, tensor in tensors.items()})


def _arrays(value: object) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """The arrays in an attribute of a strategy, and in what kind of container they are."""
    if isinstance(value, ArrayRecord):
        return "record", {name: array.numpy() for name, array in value.items()}
    if isinstance(value, dict) and all(map(_numeric, value.values())):
        return "dict", {name: np.asarray(array) for name, array in value.items()}
    if isinstance(value, list) and all(map(_numeric, value)):
        return "list", {str(index): np.asarray(array) for index, array in enumerate(value)}
    return "none", {}


def _numeric(value: object) -> bool:
    """Whether a value is an array; arithmetic makes plain numbers of those without dimensions."""
    return isinstance(value, np.ndarray | np.generic)


def _value(part: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> object:
    if part == "record":
        return ArrayRecord({name: Array(array) for name, array in arrays.items()})
    if part == "list":
        return list(arrays.values())
    return dict(arrays)
