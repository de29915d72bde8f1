"""A Flower Grid that calls the ClientApp directly: no Ray, no polling, and the same bits."""

import copy
import logging
import random
import secrets
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from uuid import uuid4

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedlab.client.app import client_app, read_task, tensors_on
from fedlab.client.federated_data import FederatedData
from fedlab.client.lockstep import Lockstep, State
from fedlab.core.foreign_code import ForeignCodeFailed, call_foreign
from fedlab.core.seeds import gpus
from fedlab.protocol.flower import ErrorCode, Run, TaskIdentity, set_message_id
from fedlab.protocol.task import ClientTask


def in_process(federated: FederatedData, clients: int, *, at_once: int = 1) -> Grid:
    """Make a grid whose clients run in this process.

    Args:
        federated: Images of all clients, and the network that they share.
        clients: Number of clients.
        at_once: Largest number of clients that train in lockstep; 1 for one after another.
    """
    if at_once > 1:
        return LockstepGrid(federated, clients, at_once)
    return InProcessGrid(client_app(lambda _: federated), clients)


class InProcessGrid(Grid):
    """Carries messages within one process, one client after another.

    A client's context is made when the client is first called, so that memory grows with the
    number of clients that take part.

    Args:
        app: Flower ClientApp that every client runs.
        clients: Number of clients; client ``i`` is node ``i + 1``.
    """

    def __init__(self, app: ClientApp, clients: int) -> None:
        # Flower logs every step, which is of use only for runs in other processes.
        logging.getLogger("flwr").setLevel(logging.WARNING)
        self._app = app
        self._clients = clients
        self._run = Run.create_empty(run_id=secrets.randbits(62))
        self._contexts: dict[int, Context] = {}
        self._replies: dict[str, Message] = {}
        self._seconds: float | None = None
        # Flower refuses to make a message outside of a task.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self._run.run_id, 1

    def set_run(self, run: Run) -> None:
        """Replace the description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Description of the run."""
        return self._run

    def get_node_ids(self) -> Iterable[int]:
        """List the ids of all nodes, in order of the partitions."""
        return range(1, self._clients + 1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages, one after another, and keep the replies."""
        if isinstance(messages, Sized):
            with own_randomness():
                return [self._push(message) for message in messages]
        ids = []
        for message in messages:  # between two of them, the server's own draws go on
            with own_randomness():
                ids.append(self._push(message))
        return ids

    def _push(self, message: Message) -> str:
        message_id = str(uuid4())
        set_message_id(message, message_id)
        self._replies[message_id] = self._deliver(message)
        return message_id

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, each only once."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages and return their replies.

        Args:
            messages: Messages to clients, which run one after another. Each is delivered before
                the next one is made.
            timeout: Seconds for all messages together, of which each of a list has an equal share,
                and each of a generator at most all; ``None`` for no limit. A client that takes
                longer is interrupted; see ``fedlab.core.foreign_code`` for what cannot be
                interrupted.
        """
        count = len(messages) if isinstance(messages, Sized) else 1
        self._seconds = timeout and timeout / max(1, count)
        try:
            return self.pull_messages(self.push_messages(messages))
        finally:
            self._seconds = None

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = self._contexts.get(node) or self._context(node)
        reply, context = deliver(self._app, message, context, self._seconds)
        if context.state:
            self._contexts[node] = context
        return reply

    def _context(self, node: int) -> Context:
        identity: dict[str, bool | float | int | str] = {
            "partition-id": node - 1,
            "num-partitions": self._clients,
        }
        return Context(self._run.run_id, node, identity, RecordDict(), {})


class LockstepGrid(InProcessGrid):
    """Trains the clients of a round together where it can, before each answers its message.

    Args:
        federated: Images of all clients, and the network that they share.
        clients: Number of clients; client ``i`` is node ``i + 1``.
        at_once: Largest number of clients that train together, at least 2.
    """

    def __init__(self, federated: FederatedData, clients: int, at_once: int) -> None:
        self._lockstep, self._device = Lockstep(federated, at_once), federated.device
        super().__init__(client_app(lambda _: federated, self._lockstep.take), clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages, and keep the replies."""
        if isinstance(messages, Sized):
            with own_randomness():
                self._lockstep.train(self._tasks(messages), seconds=self._seconds)
        return super().push_messages(messages)

    def _tasks(self, messages: Iterable[Message]) -> Iterator[tuple[ClientTask, State]]:
        """Yield the tasks in messages, with the states, each converted once."""
        states: dict[int, State] = {}
        for message in messages:
            if message.metadata.message_type == MessageType.TRAIN:
                arrays = message.content.array_records["arrays"]
                if id(arrays) not in states:
                    states[id(arrays)] = tensors_on(self._device, arrays)
                yield read_task(message), states[id(arrays)]


def deliver(
    app: ClientApp, message: Message, context: Context, seconds: float | None
) -> tuple[Message, Context]:
    """Let a client answer a message.

    Args:
        app: Flower ClientApp that the client runs.
        message: The message.
        context: State of the client; it is not changed.
        seconds: Time that the client may take; ``None`` for no limit.

    Returns:
        The reply, and the client's new state. A client that fails keeps its old one.
    """
    # Copied, as over a network: neither side may change the other's records. A copy shares the
    # arrays, which nobody changes.
    content = RecordDict(
        {
            name: record.copy() if isinstance(record, ArrayRecord) else copy.deepcopy(record)
            for name, record in message.content.items()
        }
    )
    metadata = copy.copy(message.metadata)
    received = Message(metadata=metadata, content=content)  # type: ignore[call-overload]
    changed = copy.deepcopy(context)
    try:
        reply = call_foreign(lambda: app(received, changed), seconds=seconds)
    except ForeignCodeFailed as error:
        reply, changed = failure(message, str(error)), context
    set_message_id(reply, str(uuid4()))
    return reply, changed


def failure(message: Message, reason: str) -> Message:
    """The reply to a message whose client failed for a reason."""
    return Message(
        Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message
    )


@contextmanager
def own_randomness() -> Iterator[None]:
    """Restore the global generators after the block, since clients seed them."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(gpus())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
