"""Save the messages of a Flower app as captures; an error here never stops the app."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

from flwr.app import Array, ArrayRecord, Message, RecordDict
from torch import Tensor, from_numpy

from attacks.knowledge import LocalSGD
from attacks.payload import Payload
from fedlab.core.digest import digest
from fedlab.core.schedule import names_client, names_round
from fedlab.integrations.external_update import Kind, add_difference
from fedlab.protocol.round_facts import RoundFacts
from fedlab.server.captures import Capture

log = logging.getLogger(__name__)

PARTITION = "partition-id"
"""Metric in which clients of a simulation report their partition id."""


class _Sent:
    """A record of arrays as it was when it was sent, to one client or to several."""

    def __init__(self, record: ArrayRecord) -> None:
        self._record = record  # keeps the id in use, which identifies the record
        self._arrays = dict(record)  # unlike the record, the arrays are never changed

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The arrays as tensors."""
        return _tensors(self._arrays)

    @cached_property
    def digest(self) -> str:
        """Hash that tells the record from others."""
        return digest(self.state)


@dataclass
class Recorder:
    """Saves sent and received messages as captures, and logs what it cannot save.

    The arguments are those of ``fedlab.observe``.

    Attributes:
        numbers: Number of each client that has replied, by node id.
    """

    folder: Path
    local: LocalSGD | Callable[[int], LocalSGD] | None
    rounds: str
    clients: str
    kind: Kind
    training_mode: bool
    arrays_key: str
    examples_key: str

    def __post_init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._said: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Start a round: forget what was sent in the one before."""
        self._sent: dict[int, _Sent] = {}
        self._records: dict[int, _Sent] = {}
        self._shared: str | None = None

    def sent(self, message: Message) -> None:
        """Remember a message that is sent to a node."""
        with self._forgiven("a message cannot be read"):
            node = message.metadata.dst_node_id
            self._seen.setdefault(node, len(self._seen))
            record = self._arrays(message.content)
            if record is not None:
                self._sent[node] = self._records.setdefault(id(record), _Sent(record))

    def received(self, round: int, reply: Message) -> None:
        """Save a reply, if its round and client were chosen and it contains arrays."""
        with self._forgiven(f"a reply of round {round} is not kept"):
            node = reply.metadata.src_node_id
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
        sent, tensors = self._sent[node], _tensors(arrays)
        if self.kind == "difference":
            tensors = add_difference(sent.state, tensors)
        self._shared = self._shared or sent.digest
        Capture(
            round=round,
            clients=(client,),
            global_state=sent.state,
            payload=Payload(
                "gradient" if self.kind == "gradient" else "weights",
                tensors,
                num_examples=images,
                steps=local.steps(images) if local and self.kind != "gradient" else 1,
            ),
            facts=_announced(local, training_mode=self.training_mode),
        ).save(self.folder, apart=sent.digest != self._shared)

    def _arrays(self, content: RecordDict) -> ArrayRecord | None:
        records = content.array_records
        if self.arrays_key in records or len(records) != 1:
            return records.get(self.arrays_key)
        return next(iter(records.values()))

    def _number(self, node: int, partition: object) -> int:
        """Number of a client: the same in all rounds, and different from all others."""
        if node not in self.numbers:
            taken = set(self.numbers.values())
            first = self._seen.setdefault(node, len(self._seen))
            if (
                isinstance(partition, int | float)
                and partition >= 0
                and partition == partition // 1
            ):
                first = first if partition in taken else int(partition)
            self.numbers[node] = next(number for number in count(first) if number not in taken)
        return self.numbers[node]

    def _skip(self, round: int, node: int, why: str) -> None:
        log.warning("round %d: the reply of node %d is not kept: %s", round, node, why)

    @contextmanager
    def _forgiven(self, what: str) -> Iterator[None]:
        """Log an error instead of raising it, each kind of error once."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            kind = type(error).__name__ if isinstance(error, OSError) else reason
            if kind not in self._said:
                self._said.add(kind)
                log.warning("%s (said once): %s", what, reason)


def _tensors(record: Mapping[str, Array]) -> dict[str, Tensor]:
    """Copy a record's arrays to tensors."""
    return {name: from_numpy(array.numpy()) for name, array in record.items()}


def _announced(local: LocalSGD | None, *, training_mode: bool) -> RoundFacts:
    """The public facts of the round, as far as they were given."""
    facts = RoundFacts(0.0, 0.0, 0.0, 1, 1, training_mode=training_mode)
    return facts if local is None else facts.with_local_sgd(local)
