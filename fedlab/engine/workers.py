"""A Flower Grid whose clients are shared among several processes, with the bits of one.

The images lie in a file that all processes map into their memory, so that they exist once. A client
may run in any process, since its state travels with its message.
"""

import logging
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from fedlab.client.app import client_app
from fedlab.client.federated_data import FederatedData
from fedlab.core.workers import Workers
from fedlab.data.image_file import read_images, write_images
from fedlab.engine.in_process import InProcessGrid, deliver, failure, own_randomness
from fedlab.protocol.flower import TaskIdentity, set_message_id
from fedlab.results.temporary import temporary_folder
from fedlab.scenario.scenario import Scenario

_SITES: dict[str, tuple[FederatedData, ClientApp]] = {}
"""Data and ClientApp of each federation in this process, by its key."""


@dataclass(frozen=True)
class Site:
    """Where a process finds the clients of a federation.

    Attributes:
        key: Name of the federation, unique among all processes.
        scenario: The scenario as TOML.
        images: File with the images, which ``write_images`` wrote.
        run: Number of the Flower run.
    """

    key: str
    scenario: str
    images: Path
    run: int

    def __call__(self) -> tuple[FederatedData, ClientApp]:
        """The data and the ClientApp of this process, which are made at the first call."""
        if self.key not in _SITES:
            images = read_images(self.images)
            federated = FederatedData.of(Scenario.parse(self.scenario), images)
            _SITES[self.key] = federated, client_app(lambda _: federated)
            logging.getLogger("flwr").setLevel(logging.WARNING)
            TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self.run, 1
        return _SITES[self.key]


@dataclass(frozen=True)
class _Round:
    """What the clients of a round have in common, to answer their messages in any process.

    Attributes:
        site: Where the process finds the clients.
        arrays: Records of arrays, which a process receives once for all its clients.
        seconds: Time that each client may take; ``None`` for no limit.
        poisons: Folder of the poisons that clients use again.
    """

    site: Site
    arrays: tuple[ArrayRecord, ...]
    seconds: float | None
    poisons: Path | None

    def __call__(self, job: "_Job") -> tuple[Message, Context]:
        """Let a client answer its message."""
        federated, app = self.site()
        federated.cache.folder = self.poisons
        shared = {name: self.arrays[place] for name, place in job.shared.items()}
        content = RecordDict({**shared, **job.content})
        message = Message(metadata=job.metadata, content=content)  # type: ignore[call-overload]
        return deliver(app, message, job.context, self.seconds)


@dataclass(frozen=True)
class _Job:
    """A message to a client, and the client's state.

    Attributes:
        metadata: What Flower knows of the message.
        content: Records of the message, except those of arrays.
        shared: Places of the latter among the arrays of the round, by name.
        context: State of the client.
    """

    metadata: Metadata
    content: dict[str, ConfigRecord | MetricRecord]
    shared: dict[str, int]
    context: Context

    def failed(self) -> tuple[Message, Context]:
        """What happened to a client whose process was killed twice."""
        message = Message(metadata=self.metadata, content=RecordDict())  # type: ignore[call-overload]
        reply = failure(message, "the process that trains it was killed")
        set_message_id(reply, str(uuid4()))
        return reply, self.context


class WorkersGrid(InProcessGrid):
    """Carries messages to clients that several processes share.

    Args:
        federated: Images of all clients, and the network that they share.
        scenario: The scenario.
        workers: The processes.

    Attributes:
        site: Where each process finds the clients.
        test_images: Number of test images there.
    """

    def __init__(self, federated: FederatedData, scenario: Scenario, workers: Workers) -> None:
        self._federated, self._workers = federated, workers
        app = client_app(lambda _: federated)
        super().__init__(app, scenario.data.clients)
        folder, discard = temporary_folder()
        weakref.finalize(self, discard)
        key = uuid4().hex
        self.site = Site(key, scenario.to_toml(), folder / "images.pt", self._run.run_id)
        self.test_images = len(federated.data.test_labels)
        _SITES[key] = (federated, app)
        weakref.finalize(self, _SITES.pop, key)
        workers.before_start = partial(write_images, federated.data, self.site.images)
        workers.prepare = partial(_load, self.site)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages, several at a time if they are for training, and keep the replies."""
        ordered = list(messages)
        if any(each.metadata.message_type != MessageType.TRAIN for each in ordered):
            return super().push_messages(ordered)
        ids = [str(uuid4()) for _ in ordered]
        arrays: dict[int, ArrayRecord] = {}
        jobs = []
        for message_id, message in zip(ids, ordered, strict=True):
            set_message_id(message, message_id)
            node = message.metadata.dst_node_id
            records = message.content.array_records
            arrays |= {id(record): record for record in records.values()}
            jobs.append(
                _Job(
                    message.metadata,
                    {**message.content.config_records, **message.content.metric_records},
                    {name: list(arrays).index(id(record)) for name, record in records.items()},
                    self._contexts.get(node) or self._context(node),
                )
            )
        answer = _Round(
            self.site, tuple(arrays.values()), self._seconds, self._federated.cache.folder
        )
        with own_randomness():
            answers = self._workers.map(answer, jobs, died=_Job.failed)
        for message_id, job, (reply, context) in zip(ids, jobs, answers, strict=True):
            self._replies[message_id] = reply
            if context.state:
                self._contexts[job.metadata.dst_node_id] = context
        return ids


def _load(site: Site) -> None:
    site()
