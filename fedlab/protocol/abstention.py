"""A client that declines to send anything in a round, and why."""

from dataclasses import dataclass
from typing import Literal

from fedlab.defenses.settings import DPSGD, ClipNoise
from fedlab.privacy.budget import passes
from fedlab.privacy.release import History, PrivacyRelease
from fedlab.protocol.task import ClientTask

Status = Literal["budget", "withheld"]


@dataclass(frozen=True)
class Abstention:
    """Why a client sends nothing.

    Attributes:
        status: ``budget`` if its epsilon would pass the budget: nothing was computed, and nothing
            is charged. ``withheld`` if it kept its update back after it had looked at it.
        reason: In a sentence.
    """

    status: Status
    reason: str


def over_budget(
    task: ClientTask, history: History, planned: tuple[PrivacyRelease, ...]
) -> Abstention | None:
    """The client's refusal, if what is planned would pass the budget of a defense of the task."""
    for settings in task.defenses:
        if not isinstance(settings, DPSGD | ClipNoise) or settings.budget is None:
            continue
        reason = passes(
            settings.budget,
            mechanism=settings.name,
            history=history,
            planned=planned,
            accountant=task.privacy.accountant,
            delta=task.privacy.delta,
        )
        if reason:
            return Abstention("budget", reason)
    return None
