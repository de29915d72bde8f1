"""The replies of a round: those that passed the checks, abstentions, and refused ones."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict

from fedlab.core.errors import RunFailed
from fedlab.privacy.release import History, PrivacyRelease, next_participation
from fedlab.protocol.abstention import Abstention
from fedlab.protocol.reply import (
    Expected,
    Kind,
    Refused,
    Reply,
    carries_data,
    read_abstention,
    read_history,
)
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking

log = logging.getLogger(__name__)


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
    """

    round: int
    replies: dict[int, Reply] = field(default_factory=dict)
    declined: dict[int, Abstention] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    histories: dict[int, History] = field(default_factory=dict)

    def drop(self, alone: Sequence[int]) -> None:
        """Drop replies that should be hidden in a sum, but have no others to be summed with.

        They count as failures, and what their clients spent stays spent.
        """
        for client in alone:
            del self.replies[client]
            self.refuse(client, "nobody else is left in secure aggregation to hide its reply")

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
        self.refused[client] = reason
        log.warning("round %d: client %d is skipped: %s", self.round, client, reason)


def collect_replies(
    messages: Mapping[int, Message],
    tasks: Mapping[int, ClientTask],
    *,
    expected: Expected,
    known: Mapping[int, History],
) -> ReplyCollection:
    """Read and check every reply of a round.

    Args:
        messages: Messages by client; those of failed clients may be missing.
        tasks: Tasks of all clients of the round.
        expected: The shapes and limits against which replies are checked.
        known: Histories that the clients declared before.
    """
    collection = ReplyCollection(next(iter(tasks.values())).round)
    for client, task in tasks.items():
        try:
            if client not in messages:
                raise Refused("it did not reply")
            _collect(collection, task, messages[client], expected, known.get(client, ()))
        except Refused as reason:
            collection.refuse(client, str(reason))
    return collection


def _collect(
    collection: ReplyCollection,
    task: ClientTask,
    message: Message,
    expected: Expected,
    before: History,
) -> None:
    """Read the reply of one client into a collection."""
    if message.has_error():
        raise Refused(f"the client failed: {' '.join(str(message.error.reason).split())}")
    content, client = message.content, task.client
    try:
        collection.histories[client] = _continued(content, before)
    except Refused:
        if carries_data(content):  # and does not say what it cost
            undeclared = PrivacyRelease(task.round, next_participation(before), "none")
            collection.histories[client] = (*before, undeclared)
        raise
    kind: Kind = "gradient" if isinstance(task.role, Leaking) else "weights"
    reply = Reply.from_record(content, kind=kind, expected=expected)
    if reply.abstention is None:
        collection.replies[client] = reply
    else:
        collection.declined[client] = reply.abstention
        log.info("round %d: client %d declined: %s", task.round, client, reply.abstention.reason)


def _continued(content: RecordDict, known: History) -> History:
    """The history that a reply declares, which must continue the one declared before."""
    abstention = read_abstention(content)
    # Over its budget a client computes nothing, so this round costs it nothing.
    spent = abstention is None or abstention.status != "budget"
    history = read_history(content)
    if history[: len(known)] != known or (len(history) > len(known)) is not spent:
        raise Refused("its accountant history does not go on from the one that it sent before")
    return history
