"""What came back in a round: replies that passed, clients that declined, and those refused."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message

from fedlab.core.errors import RunFailed
from fedlab.privacy.release import History, PrivacyRelease, next_participation
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.server.checks import (
    Expected,
    Refused,
    Reply,
    Unsent,
    decline_of,
    history_of,
    read_reply,
    sent_something,
)

log = logging.getLogger(__name__)


@dataclass
class Intake:
    """What came back in a round, by client.

    Attributes:
        round: Counted from 1.
        replies: Those that passed the checks.
        declined: Why others sent nothing.
        refused: Why the rest is not used.
        histories: Accountant histories of all who sent anything. Where one cannot be believed,
            what was sent counts as open.
    """

    round: int
    replies: dict[int, Reply] = field(default_factory=dict)
    declined: dict[int, Unsent] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    histories: dict[int, History] = field(default_factory=dict)

    def leave_out(self, alone: Sequence[int]) -> None:
        """Look at no reply that should have been hidden in a sum, but is the only one left of it.

        It counts as a failure, and what its client spent stays spent.
        """
        for client in alone:
            del self.replies[client]
            self._refuse(client, "nobody else is left in secure aggregation to hide its reply")

    def refuse_to_go_on(self, max_failures: float) -> None:
        """Stop where too many failed.

        Args:
            max_failures: Share of the cohort that may.

        Raises:
            RunFailed: If more did, or all.
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

    def _refuse(self, client: int, reason: str) -> None:
        self.refused[client] = reason
        log.warning("round %d: client %d is skipped: %s", self.round, client, reason)


def take_in(
    messages: Mapping[int, Message],
    tasks: Mapping[int, ClientTask],
    *,
    expected: Expected,
    known: Mapping[int, History],
) -> Intake:
    """Read every reply of a round.

    Args:
        messages: By client; some may be missing.
        tasks: What each client was asked to do, of the same round.
        expected: What replies are held against.
        known: The histories that clients declared before.
    """
    intake = Intake(next(iter(tasks.values())).round)
    for client, task in tasks.items():
        before = known.get(client, ())
        kind = "gradient" if isinstance(task.role, Leaking) else "weights"
        try:
            if client not in messages:
                raise Refused("it did not reply")
            message = messages[client]
            unsent = decline_of(message)
            spent = not (unsent and unsent.free)
            intake.histories[client] = _continued(history_of(message), before, spent=spent)
            if unsent:
                intake.declined[client] = unsent
                log.info("round %d: client %d declined: %s", task.round, client, unsent.reason)
                continue
            intake.replies[client] = read_reply(
                message, client=client, kind=kind, expected=expected
            )
        except Refused as reason:
            intake._refuse(client, str(reason))
            seen = client in messages and sent_something(messages[client])
            if seen and client not in intake.histories:
                # It sent something, and did not say what that cost.
                untold = PrivacyRelease(task.round, next_participation(before), "none")
                intake.histories[client] = (*before, untold)
    return intake


def _continued(history: History, known: History, *, spent: bool) -> History:
    """A declared history, if it goes on from what the client declared before."""
    if history[: len(known)] != known or (len(history) > len(known)) is not spent:
        raise Refused("its accountant history does not go on from the one that it sent before")
    return history
