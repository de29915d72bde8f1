"""A client that declines to send anything in a round, and why."""

from dataclasses import dataclass
from typing import Literal

from fedlab.client.plan import Plan
from fedlab.defenses.settings import DPSGD, ClipNoise
from fedlab.privacy.budget import passes
from fedlab.privacy.spending import History, Spending

Status = Literal["budget", "withheld"]


@dataclass(frozen=True)
class Declined:
    """Why a client sends nothing.

    Attributes:
        status: ``budget`` if its epsilon would pass the budget: nothing was computed, and nothing
            is charged. ``withheld`` if it kept its update back after it had looked at it.
        reason: In a sentence.
    """

    status: Status
    reason: str


def over_budget(plan: Plan, history: History, planned: tuple[Spending, ...]) -> Declined | None:
    """The client's refusal, if what is planned would pass the budget of a defense of the plan."""
    for settings in plan.defenses:
        if not isinstance(settings, DPSGD | ClipNoise) or settings.budget is None:
            continue
        reason = passes(
            settings.budget,
            mechanism=settings.name,
            history=history,
            planned=planned,
            accountant=plan.privacy.accountant,
            delta=plan.privacy.delta,
        )
        if reason:
            return Declined("budget", reason)
    return None
