"""Messages between the server and the clients, over any Flower Grid."""

import logging
import time
from collections.abc import Iterable, Mapping

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedlab.core.errors import RunFailed
from fedlab.core.plain_text import plain_text
from fedlab.protocol.arrays import record_of
from fedlab.protocol.reply import FACTS
from fedlab.protocol.task import ClientTask
from fedlab.protocol.terms import REFUSAL, TERMS, Terms

PATIENCE = 600.0
"""Seconds to wait for nodes to appear, and for their partition ids."""

LATECOMERS = 10.0
"""Seconds to wait for more nodes once there are enough, and for lost ones when too few are left."""

NEWS = 15.0
"""Seconds after which the server says for whom it waits; then after twice as many, and so on."""

MOST_NAMED = 10
"""Largest number of clients that a message names."""

ON_THE_WAY = 5.0
"""Seconds that all messages of a round may travel, added to the time that the clients have."""

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]
"""Parameters and buffers by name."""


MOST_IMAGES = 10**9
"""Largest number of images that a client may claim to have."""


def _refusal(answer: Message) -> str | None:
    """The sentence by which a client refuses to take part; ``None`` if it takes part."""
    record = answer.content.config_records.get(REFUSAL)
    return None if record is None else plain_text(record.get(REFUSAL))


def _some(clients: Iterable[int]) -> str:
    """Clients in words, of which at most ``MOST_NAMED`` are named."""
    first, *others = ordered = sorted(clients)
    if not others:
        return f"client {first}"
    rest = len(ordered) - MOST_NAMED
    named = ", ".join(map(str, ordered[:MOST_NAMED]))
    return f"clients {named}{f' and {rest} more' if rest > 0 else ''}"


class Transport:
    """Sends tasks to clients by partition id and returns their replies in order of the clients.

    Args:
        grid: Grid that carries the messages.
        terms: Terms of a deployment, to which every client must agree; ``None`` in a simulation.

    Attributes:
        grid: Grid that carries the messages.
        images: Number of images of each client of a deployment that has introduced itself.
    """

    def __init__(self, grid: Grid, terms: Terms | None = None) -> None:
        self.grid = grid
        self.images: dict[int, int] = {}
        self._terms = (
            {} if terms is None else {TERMS: ConfigRecord({TERMS: terms.model_dump_json()})}
        )
        self._nodes: dict[int, int] = {}
        self._partitions: dict[int, int] = {}

    def nodes(self, clients: int, *, fewest: int | None = None) -> Mapping[int, int]:
        """Find the node of every partition that is there. Node ids are random, so nodes are asked.

        Before the first round, and after a resume, the server waits for all clients. Later it goes
        on with those that are left.

        Args:
            clients: Number of clients.
            fewest: Number of clients that suffice, if no more appear within ``LATECOMERS`` seconds;
                by default all at the start, and one later.

        Raises:
            RunFailed: If too few clients are there, or one refuses to take part at the start.
        """
        started, news = time.monotonic(), NEWS
        enough = fewest or (1 if self._nodes else clients)
        while len(found := self._introduced(clients)) < clients:
            waited = time.monotonic() - started
            if len(found) >= enough and (self._nodes or waited > LATECOMERS):
                break
            missing = _some(set(range(clients)) - set(found))
            if waited > (LATECOMERS if self._nodes else PATIENCE):
                raise RunFailed(
                    f"only {len(found)} of {clients} clients appeared, and at least {enough} are "
                    f"needed: start {missing}, or set server.min_clients"
                )
            if waited > news:
                log.warning("waiting for %s, for %.0f seconds at most", missing, PATIENCE - waited)
                news *= 2
            time.sleep(0.1)  # Flower starts the server before the nodes are registered
        self._nodes = found
        return found

    @property
    def there(self) -> frozenset[int]:
        """Clients whose nodes were there when ``nodes`` looked last."""
        return frozenset(self._nodes)

    def _introduced(self, clients: int) -> dict[int, int]:
        """The nodes that are there now, by partition id; those that are new are asked for it."""
        nodes = list(self.grid.get_node_ids())
        questions = [
            Message(RecordDict(dict(self._terms)), node, MessageType.QUERY)
            for node in nodes
            if node not in self._partitions
        ]
        refusals: list[str] = []
        if questions:
            for answer in self.grid.send_and_receive(questions, timeout=PATIENCE):
                if answer.has_error():
                    reason = plain_text(answer.error.reason)
                    log.warning("a client could not introduce itself: %s", reason)
                    continue
                try:
                    partition = answer.content.metric_records[FACTS]["partition-id"]
                except KeyError:
                    partition = None
                if not isinstance(partition, int) or not 0 <= partition < clients:
                    log.warning("a node introduces itself as partition %s", plain_text(partition))
                    continue
                if refusal := _refusal(answer):
                    refusals.append(refusal)
                    continue
                if self._terms:
                    images = answer.content.metric_records[FACTS].get("images")
                    if not isinstance(images, int) or not 0 < images <= MOST_IMAGES:
                        log.warning("client %d claims %s images", partition, plain_text(images))
                        continue
                    self.images.setdefault(partition, images)
                self._partitions[answer.metadata.src_node_id] = partition
        if refusals and not self._nodes:
            raise RunFailed("; ".join(sorted(refusals)[:MOST_NAMED]))
        for refusal in refusals:  # later rounds go on with the clients that agreed
            log.warning("%s", refusal)
        found: dict[int, int] = {}
        for node in nodes:  # where two claim a partition, the one that was there before keeps it
            partition = self._partitions.get(node)
            if partition is not None and (
                partition not in found or self._nodes.get(partition) == node
            ):
                found[partition] = node
        return found

    def exchange(
        self,
        tasks: Mapping[int, ClientTask],
        states: Mapping[int, State],
        *,
        reply_timeout: float | None = None,
    ) -> dict[int, Message]:
        """Send every client its task and its state, and wait for the replies.

        Args:
            tasks: Task of each client.
            states: Parameters and buffers that each client is sent.
            reply_timeout: Seconds that each client may take; ``None`` for no limit. In a simulation
                all together have the sum, since one process may run them one after another.

        Returns:
            Replies by client, in order of the clients. Failed and absent clients may be missing.
        """
        # Converted once for all clients that are sent the same state.
        arrays = {
            id(state): record_of(state)
            for state in {id(state): state for state in states.values()}.values()
        }
        messages = [
            Message(
                RecordDict(
                    {
                        "arrays": arrays[id(states[client])],
                        "config": ConfigRecord({"plan": task.to_text()}),
                        **self._terms,
                    }
                ),
                self._nodes[client],
                MessageType.TRAIN,
            )
            for client, task in tasks.items()
            if client in self._nodes
        ]
        timeout = None
        if reply_timeout is not None:
            # SuperNodes work side by side, and clients of a simulation may do so one by one.
            timeout = (1 if self._terms else len(messages)) * reply_timeout + ON_THE_WAY
        received = list(self.grid.send_and_receive(messages, timeout=timeout)) if messages else []
        clients = {self._nodes[client]: client for client in tasks if client in self._nodes}
        sent = {each.metadata.message_id: each.metadata.dst_node_id for each in messages}
        replies: dict[int, Message] = {}
        for reply in received:
            node = reply.metadata.src_node_id
            if reply.has_error():  # the SuperLink answers for a dead node in its own name
                node = sent.get(reply.metadata.reply_to_message_id, node)
            if node not in clients:
                log.warning("a reply comes from node %s, which holds no partition", node)
                continue
            replies.setdefault(clients[node], reply)
        # Replies arrive in any order, and sums of floats depend on it.
        return dict(sorted(replies.items()))
