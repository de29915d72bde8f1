"""A Flower Grid whose clients are shared among several processes, with the bits of one.

A client may run in any process, since its state travels with its message.
"""

import logging
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
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
from fedlab.data.images import ImageData
from fedlab.engine.in_process import InProcessGrid, deliver, failure, own_randomness
from fedlab.protocol.flower import TaskIdentity, set_message_id
from fedlab.results.temporary import temporary_folder
from fedlab.scenario.scenario import Scenario

GRACE = 10.0
"""Seconds after the end of its time in which a client's process must have answered."""

_SITES: dict[str, tuple[FederatedData, ClientApp]] = {}
"""Data and ClientApp of each federation in this process, by its key."""


class Images(Protocol):
    """The images of a federation, where all its processes can read them."""

    def store(self) -> None:
        """Store them, before other processes start."""

    def __call__(self) -> ImageData:
        """Read them, in any process."""


class ImagesFile:
    """Images in a file that all processes map into their memory, so that they exist once there.

    Args:
        images: The images.
    """

    def __init__(self, images: ImageData) -> None:
        folder, discard = temporary_folder()
        weakref.finalize(self, discard)
        self._images: ImageData | None = images
        self._file = folder / "images.pt"

    def store(self) -> None:
        """Write the file.

        Raises:
            OSError: If it cannot be written.
        """
        assert self._images is not None, "another process stores them"
        write_images(self._images, self._file)

    def __call__(self) -> ImageData:
        """Map the file into memory."""
        return read_images(self._file)

    def __getstate__(self) -> dict[str, Path | None]:
        """What other processes are sent: the file, which this process deletes in the end."""
        return {"_images": None, "_file": self._file}


@dataclass(frozen=True)
class Site:
    """Where a process finds the clients of a federation.

    Attributes:
        key: Name of the federation, unique among all processes.
        scenario: The scenario as TOML.
        images: Reads the images.
        run: Number of the Flower run.
    """

    key: str
    scenario: str
    images: Callable[[], ImageData]
    run: int

    def __call__(self) -> tuple[FederatedData, ClientApp]:
        """The data and the ClientApp of this process, which are made at the first call."""
        if self.key not in _SITES:
            federated = FederatedData.of(Scenario.parse(self.scenario), self.images())
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
        # On another machine there may be no folder of the run: each process then crafts its own.
        there = self.poisons is not None and self.poisons.parent.is_dir()
        federated.cache.folder = self.poisons if there else None
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
        images: The images, where the processes read them; by default in a file.

    Attributes:
        site: Where each process finds the clients.
        test_images: Number of test images there.
    """

    def __init__(
        self,
        federated: FederatedData,
        scenario: Scenario,
        workers: Workers,
        images: Images | None = None,
    ) -> None:
        self._federated, self._workers = federated, workers
        app = client_app(lambda _: federated)
        super().__init__(app, scenario.data.clients)
        images = images or ImagesFile(federated.data)
        key = uuid4().hex
        # No other process has to find out by itself which device is meant.
        here = scenario.changed(engine={**dict(scenario.engine), "device": federated.device.type})
        self.site = Site(key, here.to_toml(), images, self._run.run_id)
        self.test_images = len(federated.data.test_labels)
        _SITES[key] = (federated, app)
        weakref.finalize(self, _SITES.pop, key)
        workers.before_start = images.store
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
            # A process is killed if the client could not be interrupted in time.
            seconds = None if self._seconds is None else self._seconds + GRACE
            answers = self._workers.map(answer, jobs, died=_Job.failed, seconds=seconds)
        for message_id, job, (reply, context) in zip(ids, jobs, answers, strict=True):
            self._replies[message_id] = reply
            if context.state:
                self._contexts[job.metadata.dst_node_id] = context
        return ids


def _load(site: Site) -> None:
    site()
