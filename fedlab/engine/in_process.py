"""A Flower Grid that calls the ClientApp directly: no Ray, no polling, the same bits."""

import copy
import logging
import random
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from uuid import uuid4

import numpy as np
import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

# Not among Flower's public packages, but Message() cannot be made without it.
from flwr.supercore.task_identity import TaskIdentity

from fedlab.client.app import client_app
from fedlab.client.federated_data import FederatedData

CLIENT_FAILED = 2
"""Flower's error code for a ClientApp that raised."""


def in_process(federated: FederatedData, clients: int) -> Grid:
    """A grid whose clients work one after another at a federated in this process."""
    return InProcessGrid(client_app(lambda _: federated), clients)


class InProcessGrid(Grid):
    """Carries messages within one process, one client after another.

    A client's contexts are made when it is first called, so that memory grows with the
    clients that take part and not with those that could.

    Args:
        app: The client app.
        clients: Number of virtual clients; client ``i`` is node ``i + 1``.
    """

    def __init__(self, app: ClientApp, clients: int) -> None:
        # Flower's account of every step is for runs that somebody else's process carries.
        logging.getLogger("flwr").setLevel(logging.WARNING)
        self._app = app
        self._clients = clients
        self._run = Run.create_empty(run_id=secrets.randbits(62))
        self._contexts: dict[int, Context] = {}
        self._replies: dict[str, Message] = {}
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self._run.run_id, 1

    def set_run(self, run: Run) -> None:
        """Take another run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes, in order of the partitions."""
        return range(1, self._clients + 1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages; each client works before the next one is called."""
        ids = []
        for message in messages:
            message_id = str(uuid4())
            message.metadata.__dict__["_message_id"] = message_id
            self._replies[message_id] = self._deliver(message)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over the replies to these messages."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages and hand over their replies."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        # By value, as over a wire: neither side may reach into the other's records. Arrays
        # are immutable bytes, which copying shares.
        received = Message(  # type: ignore[call-overload]
            metadata=copy.copy(message.metadata), content=copy.deepcopy(message.content)
        )
        context = copy.deepcopy(self._contexts.get(node) or self._context(node))
        try:
            with _own_randomness():
                reply = self._app(received, context)
            if context.state:  # a client that fails keeps its old one
                self._contexts[node] = context
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            reply = Message(Error(code=CLIENT_FAILED, reason=reason), reply_to=message)
        reply.metadata.__dict__["_message_id"] = str(uuid4())
        return reply

    def _context(self, node: int) -> Context:
        identity: dict[str, bool | float | int | str] = {
            "partition-id": node - 1,
            "num-partitions": self._clients,
        }
        return Context(self._run.run_id, node, identity, RecordDict(), {})


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Let a client seed the global generators without the server noticing."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(_gpus())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


@cache
def _gpus() -> int:
    """Asked once, since the driver takes its time to answer."""
    return torch.cuda.device_count()
