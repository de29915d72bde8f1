"""Aggregation: a rule made by name, applied to checked replies, and resumable."""

import gc
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, Strategy
from torch import Tensor

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.plugins import describe
from fedlab.core.seeds import derive
from fedlab.protocol.arrays import record_of, tensor_of
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import CentralDP
from fedlab.server.byzantine_limits import fitted, refuse_small_cohort
from fedlab.server.changes import ChangeRule
from fedlab.server.memory import Memory, memory_of, recall
from fedlab.server.strategies import make_strategy
from fedlab.server.traits import LINEAR, traits_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightedUpdate:
    """One client's model in an aggregate, or that of several under secure aggregation.

    Attributes:
        message: Message that brought the reply; its content is replaced.
        num_examples: Weight of the model, in examples.
        arrays: Tensors that are combined, by name.
        client: Partition id of the client; the lowest one of several.
    """

    message: Message
    num_examples: int
    arrays: Mapping[str, Tensor]
    client: int


@dataclass(frozen=True)
class Aggregate:
    """Result of aggregating the updates of a round.

    Attributes:
        arrays: New tensors by name; empty if the global model stays as it is.
        used: Places of the updates that the rule used; ``None`` if it does not choose among them.
    """

    arrays: Mapping[str, Tensor]
    used: frozenset[int] | None


class Aggregation:
    """An aggregation rule and its memory, such as momentum.

    Args:
        name: Name of the rule, or ``package.module:Name``.
        options: Keyword arguments of its class.
        central: Central differential privacy by Flower's wrapper with server-side clipping;
            ``None`` for none. It gives no protection from this server, which sees every reply
            before it is clipped.
        seed: Root seed of the scenario, for the central noise.
        cohort: Number of clients in a round; ``None`` if it is not known.

    Raises:
        BadInput: If there is no such rule, it does not take these options, it needs a larger
            cohort, or central noise does not fit it.
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
        self._name = name
        self._inner = make_strategy(name, options)
        self._traits = traits_of(self._inner)
        if central and not self._traits.linear:
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
        # Flower's rules call this function with exactly those contents that they use.
        self._inner.train_metrics_aggr_fn = self._note_used
        self._used: list[RecordDict] = []

    @classmethod
    def of(cls, scenario: Scenario) -> "Aggregation":
        """Make the rule of a scenario, as it is before the first round.

        Raises:
            BadInput: If the rule cannot be made.
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
        """True if the rule compares replies with an update that the server trains itself."""
        return self._traits.needs_root

    @property
    def _outer(self) -> Strategy:
        return self._central or self._inner

    @property
    def compares_changes(self) -> bool:
        """True if the rule looks at the length and direction of whole changes."""
        return isinstance(self._inner, ChangeRule)

    def configure(
        self, round: int, state: Mapping[str, Tensor], grid: Grid, nodes: Sequence[int]
    ) -> ConfigRecord:
        """Let the rule prepare a round.

        Args:
            round: Round number, counted from 1.
            state: Global tensors that clients send back, by name.
            grid: Grid that carries the messages.
            nodes: Nodes of the cohort.

        Returns:
            Settings that the rule sends to its clients, such as FedProx' ``proximal-mu``.

        Raises:
            RunFailed: If the rule fails.
        """
        cohort = cast(Grid, _Cohort(grid, nodes))
        try:
            messages = list(
                self._outer.configure_train(round, record_of(state), ConfigRecord(), cohort)
            )
            return messages[0].content.config_records[self._inner.configrecord_key]
        except Exception as error:  # somebody else's rule may raise anything
            raise self._failure(round, describe(error)) from error

    def aggregate(
        self,
        round: int,
        updates: Sequence[WeightedUpdate],
        *,
        root: Mapping[str, Tensor] | None = None,
    ) -> Aggregate:
        """Combine the clients' models.

        Args:
            round: Round number, counted from 1.
            updates: Models in order of the clients.
            root: Global tensors after the server trained on its root images, if ``needs_root``.

        Raises:
            RunFailed: If the rule fails, or returns another model than the global one, or one with
                values that are not finite.
        """
        if len(updates) < self._traits.fewest_replies:
            log.warning(
                "round %d: %s has only %d replies and the model stays as it is",
                round,
                self._name,
                len(updates),
            )
            return Aggregate({}, frozenset())
        contents = self._fill(updates)
        if isinstance(self._inner, ChangeRule):
            self._inner.clients = tuple(update.client for update in updates)
        like = updates[0].arrays
        root_arrays = None if root is None else record_of({name: root[name] for name in like})
        merged = self._merge(round, [update.message for update in updates], root_arrays)
        noted, self._used = {id(content) for content in self._used}, []
        used = frozenset(place for place, each in enumerate(contents) if id(each) in noted)
        # Some rules compute in float64; the model goes on in the precision that it has.
        arrays = {
            name: tensor_of(array).to(like[name].dtype, copy=True)
            for name, array in merged.items()
            if name in like
        }
        if {n: t.shape for n, t in arrays.items()} != {n: t.shape for n, t in like.items()}:
            raise self._failure(round, "it returns other arrays than those of the global model")
        for name, value in arrays.items():
            if not torch.isfinite(value).all():
                raise self._failure(round, f"{name} of the new model is not finite")
        return Aggregate(arrays, used if self._traits.selects else None)

    def _fill(self, updates: Sequence[WeightedUpdate]) -> list[RecordDict]:
        """Put the tensors and the weight of each update into its message; return the contents."""
        inner = self._inner
        for update in updates:
            arrays = update.arrays
            if self._traits.double_precision:
                arrays = {name: each.double() for name, each in arrays.items()}
            # Central noise is scaled for a plain mean: no client may weigh more than another.
            weight = 1 if self._central else update.num_examples
            update.message.content = RecordDict(
                {
                    inner.arrayrecord_key: record_of(arrays),
                    "metrics": MetricRecord({inner.weighted_by_key: weight}),
                }
            )
        return [update.message.content for update in updates]

    def _merge(self, round: int, messages: list[Message], root: ArrayRecord | None) -> ArrayRecord:
        """Apply the rule to filled messages."""
        inner: Any = self._inner
        count = len(messages)
        if root is not None and self.needs_root:
            inner.set_root(root)
        if self._central:
            self._central.num_sampled_clients = count
        try:
            with (
                _quick_collections(),
                _numpy_seeded(derive(self._seed, "central noise", round)),
                fitted(inner, round=round, replies=count, cohort=self._cohort or count),
            ):
                merged, _ = self._outer.aggregate_train(round, messages)
        except Exception as error:  # somebody else's rule may raise anything
            if self._central and isinstance(error, ZeroDivisionError):
                raise RunFailed(
                    f"round {round}: a reply changes nothing, and Flower's central clipping "
                    "divides by its norm"
                ) from error
            raise self._failure(round, describe(error)) from error
        if not isinstance(merged, ArrayRecord):
            raise self._failure(round, "it returns no model")
        return merged

    def _failure(self, round: int, reason: str) -> RunFailed:
        return RunFailed(f'round {round}: aggregation rule "{self._name}" failed: {reason}')

    def _note_used(self, contents: list[RecordDict], _: str) -> MetricRecord:
        self._used = contents
        return MetricRecord()

    def memory(self) -> dict[str, np.ndarray[Any, Any]]:
        """Collect all arrays that the rule keeps between rounds, by a path of names."""
        return memory_of(self._inner)

    def recall(self, memory: Memory) -> None:
        """Restore what ``memory`` returned, to a rule made with the same options."""
        recall(self._inner, memory)


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which Flower draws noise, and restore it afterwards."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def _quick_collections() -> Iterator[None]:
    """Make garbage collection fast: it skips all objects that exist now.

    Flower's Bulyan collects garbage after every reply, which takes 0.15 s and more beside PyTorch.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Cohort:
    """A grid that shows only the nodes of this round's cohort."""

    def __init__(self, grid: Grid, nodes: Iterable[int]) -> None:
        self._grid = grid
        self._nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        return self._nodes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)
