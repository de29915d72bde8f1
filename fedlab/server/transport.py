"""Messages between the server and the clients, over any Flower Grid."""

import time
from collections.abc import Mapping
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedlab.core.errors import RunFailed
from fedlab.protocol.reply import FACTS
from fedlab.protocol.task import ClientTask

PATIENCE = 600.0
"""Seconds to wait for nodes to appear, and for their partition ids."""

State = Mapping[str, Tensor]
"""Parameters and buffers by name."""


class Transport:
    """Sends tasks to clients by partition id and returns their replies in order of the clients.

    Args:
        grid: Grid that carries the messages.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._nodes: dict[int, int] = {}

    def nodes(self, clients: int) -> Mapping[int, int]:
        """Find the node of every partition. Nodes are asked once, since node ids are random.

        Args:
            clients: Number of clients, which must all appear.

        Raises:
            RunFailed: If a client does not appear in time, or does not say its partition id.
        """
        deadline = time.monotonic() + PATIENCE
        while len(nodes := list(self.grid.get_node_ids())) < clients:
            if time.monotonic() > deadline:
                raise RunFailed(f"only {len(nodes)} of {clients} clients appeared")
            time.sleep(0.1)  # Flower starts the server before the nodes are registered
        known = set(self._nodes.values())
        if unknown := [node for node in nodes if node not in known]:
            questions = [Message(RecordDict(), node, MessageType.QUERY) for node in unknown]
            for answer in self.grid.send_and_receive(questions, timeout=PATIENCE):
                if answer.has_error():
                    raise RunFailed(f"a client could not introduce itself: {answer.error.reason}")
                partition = cast(int, answer.content.metric_records[FACTS]["partition-id"])
                self._nodes[partition] = answer.metadata.src_node_id
        if missing := sorted(set(range(clients)) - set(self._nodes)):
            raise RunFailed(f"no node holds partition {missing[0]}")
        return self._nodes

    def exchange(
        self, tasks: Mapping[int, ClientTask], states: Mapping[int, State]
    ) -> dict[int, Message]:
        """Send every client its task and its state, and wait for the replies.

        Args:
            tasks: Task of each client.
            states: Parameters and buffers that each client is sent.

        Returns:
            Replies by client, in order of the clients. Failed clients may be missing.
        """
        # Converted once for all clients that are sent the same state.
        arrays = {
            id(state): ArrayRecord({name: Array(value.numpy()) for name, value in state.items()})
            for state in {id(state): state for state in states.values()}.values()
        }
        messages = [
            Message(
                RecordDict(
                    {
                        "arrays": arrays[id(states[client])],
                        "config": ConfigRecord({"plan": task.model_dump_json(exclude_none=True)}),
                    }
                ),
                self._nodes[client],
                MessageType.TRAIN,
            )
            for client, task in tasks.items()
        ]
        partition = {node: client for client, node in self._nodes.items()}
        replies = {
            partition[reply.metadata.src_node_id]: reply
            for reply in self.grid.send_and_receive(messages)
        }
        # Replies arrive in any order, and sums of floats depend on it.
        return dict(sorted(replies.items()))
