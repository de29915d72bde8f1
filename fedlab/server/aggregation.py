"""Any FedAvg-derived strategy of Flower, made by name, fed checked replies, and resumable."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, strategy
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)
from torch import Tensor

from fedlab.errors import BadInput, RunFailed
from fedlab.scenario_tables import CentralDP
from fedlab.seeds import derive

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


@dataclass(frozen=True)
class Vote:
    """One part in an aggregate.

    Attributes:
        message: That brought it; its content is replaced.
        num_examples: Its weight.
        arrays: What is averaged, by name.
    """

    message: Message
    num_examples: int
    arrays: Mapping[str, Tensor]


class Aggregation:
    """One Flower strategy and its memory, such as momentum.

    Args:
        name: A key of ``STRATEGIES``.
        options: Keyword arguments of that class.
        central: Central differential privacy around it, by Flower's wrapper with server-side
            clipping. It says nothing about this server, which sees every reply before.
        seed: Root seed of the scenario, for that noise.

    Raises:
        BadInput: If there is no such strategy, or it does not take these options.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        central: CentralDP | None = None,
        seed: int = 0,
    ) -> None:
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
        self._seed = seed
        self._central = central and DifferentialPrivacyServerSideFixedClipping(
            self._inner, central.noise_multiplier, central.clipping_norm, num_sampled_clients=1
        )

    @property
    def _outer(self) -> Strategy:
        return self._central or self._inner

    def configure(
        self, round: int, state: Mapping[str, Tensor], grid: Grid, nodes: Sequence[int]
    ) -> ConfigRecord:
        """Let the strategy prepare a round for these nodes.

        Returns:
            What it wants its clients to know, such as FedProx' ``proximal-mu``.
        """
        messages = list(
            self._outer.configure_train(
                round, _record(state), ConfigRecord(), cast(Grid, _Cohort(grid, nodes))
            )
        )
        return messages[0].content.config_records[self._inner.configrecord_key]

    def aggregate(self, round: int, votes: Sequence[Vote]) -> dict[str, Tensor]:
        """Combine the clients' models.

        Args:
            round: Counted from 1.
            votes: In order of the clients.

        Returns:
            The new arrays by name.

        Raises:
            RunFailed: If the strategy refuses, as Bulyan does with too few clients.
        """
        for vote in votes:
            # Central noise is scaled for a plain mean: no client may weigh more than another.
            weight = 1 if self._central else vote.num_examples
            vote.message.content = RecordDict(
                {
                    self._inner.arrayrecord_key: _record(vote.arrays),
                    "metrics": MetricRecord({self._inner.weighted_by_key: weight}),
                }
            )
        if self._central:
            self._central.num_sampled_clients = len(votes)
        try:
            with _numpy_seeded(derive(self._seed, "central noise", round)):
                merged, _ = self._outer.aggregate_train(round, [vote.message for vote in votes])
        except ZeroDivisionError as error:
            raise RunFailed(
                f"round {round}: a reply changes nothing, and Flower's central clipping divides by "
                "its norm"
            ) from error
        except (AggregationError, ValueError) as error:
            raise RunFailed(f"round {round}: {type(self._inner).__name__}: {error}") from error
        if merged is None:
            raise RunFailed(f"round {round}: {type(self._inner).__name__} gave no model")
        # Some rules compute in float64; the model goes on in the precision that it has.
        return {
            name: torch.from_numpy(array.numpy().copy()).to(votes[0].arrays[name].dtype)
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


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Flower draws its noise from NumPy's global generator, which is put back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)


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
