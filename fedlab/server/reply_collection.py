"""The replies of a round: those that passed the checks, abstentions, and refused ones."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message

from fedlab.core.errors import RunFailed
from fedlab.core.grouped_log import log_by_reason
from fedlab.core.plain_text import plain_text
from fedlab.privacy.release import OPEN, History, PrivacyRelease, next_participation
from fedlab.protocol.abstention import Abstention
from fedlab.protocol.declared_cost import PublicSizes
from fedlab.protocol.flower import ErrorCode
from fedlab.protocol.reply import Expected, Kind, Refused, Reply, carries_data
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.server.history_check import checked_history

OWN_FAILURES = frozenset(
    {ErrorCode.LOAD_CLIENT_APP_EXCEPTION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION}
)
"""Errors by which a client itself says that it failed, so that it has sent nothing. Any other error
comes from a SuperLink or SuperNode, which cannot tell."""

SKIPPED = ("is skipped", "are skipped")
"""What happened to one client, or to several, whose reply is not used."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What the server knows, and holds every reply of a round against.

    Attributes:
        expected: Shapes and limits.
        histories: Privacy histories of all clients before the round.
        task_in: Returns the task that a client was given in an earlier round, by round and client.
        sizes: Public numbers about the clients' images; ``None`` if they are not known.
        there: Clients whose nodes are there; ``None`` if nobody looked.
        unanswered: Costs of tasks without a reply, which clients were told, by partition id.
    """

    expected: Expected
    histories: Mapping[int, History]
    task_in: Callable[[int, int], ClientTask]
    sizes: PublicSizes | None = None
    there: frozenset[int] | None = None
    unanswered: Mapping[int, History] = field(default_factory=dict)


@dataclass
class ReplyCollection:
    """Replies, abstentions and failures of a round, by client.

    Attributes:
        round: Round number, counted from 1.
        replies: Replies with a payload that passed the checks.
        declined: Abstentions of clients that sent no payload.
        refused: Reasons why the other replies are not used.
        histories: Privacy histories of all clients that sent anything. Where a history cannot be
            believed, the release counts as unprotected.
        disputed: Clients whose histories are not those that they declared.
        failed: Clients that say themselves that they failed.
    """

    round: int
    replies: dict[int, Reply] = field(default_factory=dict)
    declined: dict[int, Abstention] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    histories: dict[int, History] = field(default_factory=dict)
    disputed: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)

    def drop(self, clients: Sequence[int], reason: str) -> None:
        """Drop replies that should be hidden in a sum, but whose sum is not formed.

        They count as failures, and what their clients spent stays spent.
        """
        for client in clients:
            del self.replies[client]
            self.refuse(client, reason)
        self._log(logging.WARNING, SKIPPED, {client: self.refused[client] for client in clients})

    def check_failures(self, max_failures: float) -> None:
        """Stop the run if too many clients failed.

        Args:
            max_failures: Share of the cohort, from 0 to 1, that may fail.

        Raises:
            RunFailed: If a larger share failed, or all clients did.
        """
        refused, sound = self.refused, len(self.replies) + len(self.declined)
        if not refused or (sound and len(refused) <= max_failures * (sound + len(refused))):
            return
        client, reason = next(iter(refused.items()))
        many = "all" if not sound else f"{len(refused)} of {len(refused) + sound}"
        raise RunFailed(
            f"round {self.round}: {many} clients failed or were refused, client {client} because "
            f"{reason}"
        )

    def refuse(self, client: int, reason: str) -> None:
        """Note why a client's reply is not used."""
        self.refused[client] = plain_text(reason)

    def report(self) -> None:
        """Log which clients sent nothing, and whose replies are not used."""
        declined = {client: each.reason for client, each in self.declined.items()}
        self._log(logging.INFO, ("declined", "declined"), declined)
        self._log(logging.WARNING, SKIPPED, self.refused)

    def _log(self, level: int, verbs: tuple[str, str], reasons: Mapping[int, str]) -> None:
        log_by_reason(log, level, reasons.items(), round=self.round, verbs=verbs)


def collect_replies(
    messages: Mapping[int, Message], tasks: Mapping[int, ClientTask], known: Known
) -> ReplyCollection:
    """Read and check every reply of a round.

    Args:
        messages: Messages by client; those of failed clients may be missing.
        tasks: Tasks of all clients of the round.
        known: What the server knows.
    """
    collection = ReplyCollection(next(iter(tasks.values())).round)
    for client, task in tasks.items():
        try:
            if known.there is not None and client not in known.there:
                raise Refused("its node is not there")
            if client not in messages:
                raise Refused("it did not reply")
            _collect(collection, task, messages[client], known)
        except Refused as reason:
            collection.refuse(client, str(reason))
    collection.report()
    return collection


def _collect(collection: ReplyCollection, task: ClientTask, message: Message, known: Known) -> None:
    """Read the reply of one client into a collection."""
    if message.has_error():
        if message.error.code in OWN_FAILURES:
            collection.failed.add(task.client)
        raise Refused(f"the client failed: {plain_text(message.error.reason)}")
    content, client = message.content, task.client
    before = known.histories.get(client, ())
    try:
        collection.histories[client] = checked_history(
            content,
            before,
            task,
            task_in=lambda round: known.task_in(round, client),
            sizes=known.sizes,
            unanswered=known.unanswered.get(client, ()),
            shares_buffers=bool(known.expected.buffers),
        )
    except Refused:
        collection.disputed.add(client)
        if carries_data(content):  # and does not say, or lies about, what it cost
            opened = PrivacyRelease(task.round, next_participation(before), OPEN)
            collection.histories[client] = (*before, opened)
        raise
    kind: Kind = "gradient" if isinstance(task.role, Leaking) else "weights"
    reply = Reply.from_record(content, kind=kind, expected=known.expected, known=before)
    if reply.abstention is None:
        collection.replies[client] = reply
    else:
        collection.declined[client] = reply.abstention
