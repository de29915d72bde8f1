"""A client that sends nothing in a round, and why."""

from dataclasses import dataclass, replace
from typing import Literal

from fedlab.privacy.budget import over_budget
from fedlab.privacy.release import History, PrivacyRelease
from fedlab.protocol.task import ClientTask

Status = Literal["budget", "withheld"]


@dataclass(frozen=True)
class Abstention:
    """Why a client sends nothing in a round.

    Attributes:
        status: ``budget`` if the round would exceed its privacy budget: nothing is computed, and
            nothing is charged. ``withheld`` if the client inspected its update and kept it.
        reason: The reason in a sentence, which the server sees.
    """

    status: Status
    reason: str


def abstain_over_budget(
    task: ClientTask, history: History, planned: tuple[PrivacyRelease, ...]
) -> Abstention | None:
    """The client's abstention if the round would exceed the budget of one of its defenses.

    Args:
        task: The client's task.
        history: Privacy history of the client before the round.
        planned: Cost of the round as it is known before.
    """
    for defense in task.defenses:
        if defense.privacy_budget is None or defense.account is None:
            continue
        reason = over_budget(
            defense.privacy_budget,
            replace(defense.account, mechanism=defense.name),
            history=history,
            planned=planned,
            accountant=task.privacy.accountant,
            delta=task.privacy.delta,
        )
        if reason:
            return Abstention("budget", reason)
    return None
