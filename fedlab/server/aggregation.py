"""Any FedAvg-derived strategy, made by name, fed checked replies, and resumable."""

import gc
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    MultiKrum,
    Strategy,
)
from torch import Tensor

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.seeds import derive
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import CentralDP
from fedlab.server.byzantine_limits import fitted, refuse_small_cohort, too_few
from fedlab.server.changes import ChangeRule
from fedlab.server.fltrust import FLTrust
from fedlab.server.memory import Memory, memory_of, recall
from fedlab.server.strategies import LINEAR, make_strategy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightedUpdate:
    """One part in an aggregate.

    Attributes:
        message: That brought it; its content is replaced.
        num_examples: Its weight.
        arrays: What is averaged, by name.
    """

    message: Message
    num_examples: int
    arrays: Mapping[str, Tensor]


@dataclass(frozen=True)
class Aggregate:
    """What became of the votes of a round.

    Attributes:
        arrays: The new ones by name; none where the model stays as it is.
        used: Places of the votes that the strategy let in; ``None`` where it does not choose.
    """

    arrays: Mapping[str, Tensor]
    used: frozenset[int] | None


class Aggregation:
    """One strategy and its memory, such as momentum.

    Args:
        name: A key of ``STRATEGIES``.
        options: Keyword arguments of that class.
        central: Central differential privacy around it, by Flower's wrapper with server-side
            clipping. It says nothing about this server, which sees every reply before.
        seed: Root seed of the scenario, for that noise.
        cohort: Clients in a round, where that is known.

    Raises:
        BadInput: If there is no such strategy, it does not take these options, it needs a larger
            cohort, or central noise is not made for it.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        central: CentralDP | None = None,
        seed: int = 0,
        cohort: int | None = None,
    ) -> None:
        self._inner = make_strategy(name, options)
        if central and name not in LINEAR:
            raise BadInput(
                f"server.central_dp scales its noise for a mean, and {name} is none: use one of "
                f"{', '.join(LINEAR)}"
            )
        if cohort is not None:
            refuse_small_cohort(self._inner, cohort)
        self._cohort = cohort
        self._seed = seed
        self._central = central and DifferentialPrivacyServerSideFixedClipping(
            self._inner, central.noise_multiplier, central.clipping_norm, num_sampled_clients=1
        )
        # Flower's rules pass on to this exactly those contents that they let in.
        self._inner.train_metrics_aggr_fn = self._note
        self._let_in: list[RecordDict] = []

    @classmethod
    def of(cls, scenario: Scenario) -> "Aggregation":
        """The strategy that a scenario names, as it is before the first round.

        Raises:
            BadInput: If it cannot be made.
        """
        return cls(
            scenario.server.strategy,
            scenario.server.options,
            central=scenario.server.central_dp,
            seed=scenario.seed,
            cohort=scenario.server.cohort or scenario.data.clients,
        )

    @property
    def needs_root(self) -> bool:
        """Whether the strategy compares replies with an update of the server's own."""
        return isinstance(self._inner, FLTrust)

    @property
    def _outer(self) -> Strategy:
        return self._central or self._inner

    @property
    def compares_changes(self) -> bool:
        """Whether the strategy goes by the length and direction of whole changes."""
        return isinstance(self._inner, ChangeRule)

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

    def aggregate(
        self,
        round: int,
        votes: Sequence[WeightedUpdate],
        *,
        root: Mapping[str, Tensor] | None = None,
    ) -> Aggregate:
        """Combine the clients' models.

        Args:
            round: Counted from 1.
            votes: In order of the clients.
            root: The server's own model of this round by name, if ``needs_root``.

        Raises:
            RunFailed: If the strategy refuses.
        """
        inner = self._inner
        selects = isinstance(inner, Bulyan | MultiKrum | FLTrust)
        if too_few(inner, len(votes)):
            log.warning(
                "round %d: %s has only %d replies and the model stays as it is",
                round,
                type(inner).__name__,
                len(votes),
            )
            return Aggregate({}, frozenset())
        contents = self._filled(votes)
        if isinstance(inner, FLTrust) and root is not None:
            inner.trained(_record({name: root[name] for name in votes[0].arrays}))
        merged = self._merged(round, [vote.message for vote in votes])
        let_in, self._let_in = {id(content) for content in self._let_in}, []
        used = frozenset(place for place, each in enumerate(contents) if id(each) in let_in)
        # Some rules compute in float64; the model goes on in the precision that it has.
        arrays = {
            name: torch.from_numpy(array.numpy().copy()).to(votes[0].arrays[name].dtype)
            for name, array in merged.items()
        }
        return Aggregate(arrays, used if selects else None)

    def _filled(self, votes: Sequence[WeightedUpdate]) -> list[RecordDict]:
        """What the strategy gets to see of each vote, which is now in its message."""
        inner = self._inner
        # Flower gets distances from squared norms, which in float32 says little of near models.
        exact = isinstance(inner, Bulyan | MultiKrum)
        for vote in votes:
            arrays = {n: each.double() for n, each in vote.arrays.items()} if exact else vote.arrays
            # Central noise is scaled for a plain mean: no client may weigh more than another.
            weight = 1 if self._central else vote.num_examples
            vote.message.content = RecordDict(
                {
                    inner.arrayrecord_key: _record(arrays),
                    "metrics": MetricRecord({inner.weighted_by_key: weight}),
                }
            )
        return [vote.message.content for vote in votes]

    def _merged(self, round: int, messages: list[Message]) -> ArrayRecord:
        """What the strategy makes of filled messages."""
        inner, count = self._inner, len(messages)
        if self._central:
            self._central.num_sampled_clients = count
        try:
            with (
                _quick_collections(),
                _numpy_seeded(derive(self._seed, "central noise", round)),
                fitted(inner, round=round, replies=count, cohort=self._cohort or count),
            ):
                merged, _ = self._outer.aggregate_train(round, messages)
        except ZeroDivisionError as error:
            raise RunFailed(
                f"round {round}: a reply changes nothing, and Flower's central clipping divides by "
                "its norm"
            ) from error
        except (AggregationError, ValueError) as error:
            raise RunFailed(f"round {round}: {type(inner).__name__}: {error}") from error
        if merged is None:
            raise RunFailed(f"round {round}: {type(inner).__name__} gave no model")
        return merged

    def _note(self, contents: list[RecordDict], _: str) -> MetricRecord:
        self._let_in = contents
        return MetricRecord()

    def memory(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything that the strategy remembers between rounds, by a path of names."""
        return memory_of(self._inner)

    def recall(self, memory: Memory) -> None:
        """Give back what ``memory`` returned, to a strategy made with the same options."""
        recall(self._inner, memory)


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Flower draws its noise from NumPy's global generator, which is put back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def _quick_collections() -> Iterator[None]:
    """Flower's Bulyan collects garbage after every reply: 0.15 s and more beside PyTorch.

    What was there before is not looked through each time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


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
