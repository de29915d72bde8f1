"""Watch anybody's Flower app: keep what its server sent and got back, and change nothing."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import Tensor, from_numpy

from attacks.knowledge import LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import Reconstruction
from fedlab.announced import Announced
from fedlab.digest import digest
from fedlab.errors import BadInput
from fedlab.files import check_folder
from fedlab.schedule import names_client, names_round
from fedlab.server.captures import Capture

log = logging.getLogger(__name__)

PARTITION = "partition-id"
"""The metric by which clients of a simulation say which they are, if they do."""


def observe(
    strategy: Strategy,
    folder: Path | str,
    *,
    local: LocalSGD | Callable[[int], LocalSGD] | None = None,
    rounds: str | int = "all",
    clients: str | int = "all",
    kind: Literal["gradient", "weights"] = "weights",
    training_mode: bool = True,
    arrays_key: str = "arrays",
    examples_key: str = "num-examples",
) -> "Observed":
    """Put a strategy of a ServerApp under observation, which keeps Captures of its training rounds.

    The run stays as it is, bit for bit: the same messages, replies, aggregation and random draws.
    What cannot be kept (an error, a reply without arrays, a full disk) is said in the log. Observe
    the outermost strategy: what is inside of one of Flower's wrappers for differential privacy
    gets to see clipped updates only.

    Args:
        strategy: Any of Flower's Message API, or one's own.
        folder: For the Captures, made with the first one; it must not hold others already.
        local: What the server knows of its clients' training, the same in all rounds or by round;
            attacks on weights need it, here or later.
        rounds: To keep, as in a scenario: ``all``, ``3``, ``1,4,7-``, ``every 2``.
        clients: To keep: ``all``, ``0-3``. Their number is the ``partition-id`` among a reply's
            metrics if it is there, else their place in the order of first messages.
        kind: What replies hold: ``weights`` after training, or the ``gradient`` of one batch.
        training_mode: Whether clients' networks are in training mode.
        arrays_key: Of the record with the arrays, in messages and replies; if there is no such
            record but a single other one of arrays, that is it.
        examples_key: Of the number of images, among a reply's metrics.

    Returns:
        What stands in for the strategy: ``observed.start(...)``.

    Raises:
        BadInput: If the folder holds Captures or cannot be written to, or rounds or clients cannot
            be read.

    Example:
        >>> from flwr.serverapp.strategy import FedAvg
        >>> observe(FedAvg(), "captures", local=LocalSGD(lr=0.1), rounds="1-3")
        Observed(FedAvg, captures)
    """
    place = Path(folder)
    check_folder(place)
    if next(place.glob("*.safetensors"), None) is not None:
        raise BadInput(f"{place} holds the Captures of another run: name another folder")
    try:
        names_round(str(rounds), 1)
        names_client(str(clients), 0)
    except ValueError as error:
        raise BadInput(str(error)) from error
    recorder = _Recorder(
        place, local, str(rounds), str(clients), kind, training_mode, arrays_key, examples_key
    )
    return Observed(strategy, recorder)


class Observed(Strategy):
    """A strategy under observation; see ``observe``.

    Everything that it is asked for is done by the strategy itself: what is not named here, and
    what is set, is passed on to it.
    """

    def __init__(self, strategy: Strategy, recorder: "_Recorder") -> None:
        vars(self).update(
            _strategy=strategy,
            _recorder=recorder,
            # Bound now, since the strategy's own ``start`` will find ours in their place.
            _configure=strategy.configure_train,
            _aggregate=strategy.aggregate_train,
        )

    @property
    def folder(self) -> Path:
        """Where the Captures are."""
        return self._recorder.folder

    @property
    def clients(self) -> Mapping[int, int]:
        """The number of each client of which a reply was looked at, by Flower's id of its node."""
        return dict(self._recorder.numbers)

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run the strategy's own ``start``, whatever it takes."""
        with self._within():
            return self._strategy.start(*args, **kwargs)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What the strategy sends, noted as it goes out."""
        self._recorder.begin()
        messages = self._configure(server_round, arrays, config, grid)
        return _passing(messages, self._recorder.sent)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the strategy makes of the replies, each kept before it gets its hands on it."""

        def keep(reply: Message) -> None:
            self._recorder.received(server_round, reply)

        aggregated: tuple[ArrayRecord | None, MetricRecord | None]
        aggregated = self._aggregate(server_round, _passing(replies, keep))
        return aggregated

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The strategy's own."""
        return self._strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The strategy's own."""
        return self._strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The strategy's own."""
        self._strategy.summary()

    def reconstruct(self, *, round: int, client: int, **facts: Any) -> Reconstruction:
        """Rebuild the images behind a kept reply; see ``fedlab.observed.reconstruct_capture``.

        Args:
            round: Counted from 1.
            client: Its number.
            **facts: ``model``, ``shape`` and ``classes``, and whatever else that function takes.

        Raises:
            BadInput: If it was not kept, or cannot be attacked.

        Example::

            observed.reconstruct(
                round=1, client=0, model=Net(), shape=(1, 28, 28), classes=10, preset="fast"
            )
        """
        # Only here: a server that merely keeps Captures needs no attacks.
        from fedlab.observed import reconstruct_capture

        return reconstruct_capture(self.folder, round=round, client=client, **facts)

    @contextmanager
    def _within(self) -> Iterator[None]:
        """Stand in for the strategy's hooks, for its own ``start``, which may be anybody's."""
        hooks = vars(self._strategy)
        ours = {"configure_train": self.configure_train, "aggregate_train": self.aggregate_train}
        before = {name: hooks[name] for name in ours if name in hooks}
        hooks.update(ours)
        try:
            yield
        finally:
            for name in ours:
                del hooks[name]
            hooks.update(before)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_strategy"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._strategy, name, value)

    def __repr__(self) -> str:
        return f"Observed({type(self._strategy).__name__}, {self.folder})"


@dataclass
class _Recorder:
    """Keeps Captures, and never raises.

    Attributes:
        folder: Where they are kept.
        local: As ``observe`` takes it, and so are those that follow.
    """

    folder: Path
    local: LocalSGD | Callable[[int], LocalSGD] | None
    rounds: str
    clients: str
    kind: Literal["gradient", "weights"]
    training_mode: bool
    arrays_key: str
    examples_key: str

    def __post_init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._said: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Forget what was sent in the round before."""
        self._sent: dict[int, ArrayRecord] = {}
        self._states: dict[int, tuple[ArrayRecord, dict[str, Tensor], str]] = {}
        self._shared: dict[int, str] = {}

    def sent(self, message: Message) -> None:
        """Note what goes out to a node; as a reference, since arrays are never written to."""
        with self._forgiven("a message cannot be read"):
            node = message.metadata.dst_node_id
            self._seen.setdefault(node, len(self._seen))
            record = self._arrays(message.content)
            if record is not None:
                self._sent[node] = record

    def received(self, round: int, reply: Message) -> None:
        """Keep a reply, if it is to be kept and there is something in it."""
        node = reply.metadata.src_node_id
        with self._forgiven(f"the reply of node {node} in round {round} is not kept"):
            if not names_round(self.rounds, round):
                return
            if reply.has_error():
                self._skip(round, node, f"it is an error: {reply.error.reason}")
                return
            metrics = {
                k: v for each in reply.content.metric_records.values() for k, v in each.items()
            }
            client = self._number(node, metrics.get(PARTITION))
            if not names_client(self.clients, client):
                return
            arrays = self._arrays(reply.content)
            if not arrays:
                self._skip(round, node, f'there is no record of arrays called "{self.arrays_key}"')
            elif node not in self._sent:
                self._skip(round, node, "no arrays were sent to it")
            elif Capture.kept(self.folder, round, client):
                self._skip(round, node, f"{self.folder} holds one of that round and client already")
            else:
                self._keep(round, node, client, arrays, metrics.get(self.examples_key))

    def _keep(
        self, round: int, node: int, client: int, arrays: ArrayRecord, examples: object
    ) -> None:
        images = int(examples) if isinstance(examples, int | float) and examples >= 1 else 1
        if images != examples:
            log.warning(
                'round %d: client %d did not say how many images it has ("%s"): 1 is put down',
                round,
                client,
                self.examples_key,
            )
        local = self.local(round) if callable(self.local) else self.local
        state, fingerprint = self._state(self._sent[node])
        weights = self.kind == "weights" and local is not None
        Capture(
            round=round,
            clients=(client,),
            global_state=state,
            payload=Payload(
                self.kind,
                _tensors(arrays),
                num_examples=images,
                steps=local.steps(images) if weights and local else 1,
            ),
            announced=_announced(local, training_mode=self.training_mode),
        ).save(self.folder, apart=self._shared.setdefault(round, fingerprint) != fingerprint)

    def _state(self, record: ArrayRecord) -> tuple[dict[str, Tensor], str]:
        """What was sent and its digest, worked out once where all clients got the same record."""
        if id(record) not in self._states:
            state = _tensors(record)
            # The record is held on to, so that its id stays its own.
            self._states[id(record)] = record, state, digest(state)
        _, state, fingerprint = self._states[id(record)]
        return state, fingerprint

    def _arrays(self, content: RecordDict) -> ArrayRecord | None:
        records = content.array_records
        if self.arrays_key in records or len(records) != 1:
            return records.get(self.arrays_key)
        return next(iter(records.values()))

    def _number(self, node: int, partition: object) -> int:
        """What to call a client: the same in all rounds, and never the same as another."""
        if node not in self.numbers:
            taken = set(self.numbers.values())
            own = isinstance(partition, int | float) and partition >= 0 and partition not in taken
            first = self._seen.setdefault(node, len(self._seen))
            free = next(number for number in count(first) if number not in taken)
            self.numbers[node] = int(partition) if own and partition == int(partition) else free
        return self.numbers[node]

    def _skip(self, round: int, node: int, why: str) -> None:
        log.warning("round %d: the reply of node %d is not kept: %s", round, node, why)

    @contextmanager
    def _forgiven(self, what: str) -> Iterator[None]:
        """Whatever goes wrong in here is said, the same error once, and the run goes on."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            kind = type(error).__name__ if isinstance(error, OSError) else reason
            if kind not in self._said:
                self._said.add(kind)
                log.warning("%s (said once): %s", what, reason)


def _passing(messages: Iterable[Message], look: Callable[[Message], None]) -> Iterable[Message]:
    """The same messages, each looked at before anybody else has it.

    A collection is handed on as it is; what makes messages one by one goes on doing so in its time.
    """
    if not isinstance(messages, Collection):
        return _one_by_one(messages, look)
    for message in messages:
        look(message)
    return messages


def _one_by_one(messages: Iterable[Message], look: Callable[[Message], None]) -> Iterator[Message]:
    for message in messages:
        look(message)
        yield message


def _tensors(record: Mapping[str, Array]) -> dict[str, Tensor]:
    """Copies of a record's arrays."""
    return {name: from_numpy(array.numpy()) for name, array in record.items()}


def _announced(local: LocalSGD | None, *, training_mode: bool) -> Announced:
    """What the server asked for as far as it was told to us."""
    if local is None:
        return Announced(0.0, 0.0, 0.0, 1, 1, training_mode=training_mode)
    return Announced(
        lr=local.lr,
        momentum=local.momentum,
        weight_decay=local.weight_decay,
        epochs=local.epochs,
        batch_size=local.batch_size,
        proximal_mu=local.proximal_mu,
        training_mode=training_mode,
    )
