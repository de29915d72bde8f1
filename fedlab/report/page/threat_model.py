"""The threat model of a scenario: what each party does, and what the attacker knows."""

from collections.abc import Iterable
from typing import Protocol

from attacks.knowledge import MOST_IMAGES
from fedlab.report.templates import paragraphs
from fedlab.report.verdicts.run import attack_names
from fedlab.scenario.roles import Leaking, Poisoning
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION
from fedlab.server.attacker import most_images


class _Scheduled(Protocol):
    @property
    def rounds(self) -> str: ...

    @property
    def clients(self) -> str: ...


def threat_model(scenario: Scenario, *, arms: Iterable[Scenario] = ()) -> list[tuple[str, str]]:
    """Describe server, clients, attacks and defenses of a scenario.

    The sentences are in ``templates/threat_model.txt``: paragraphs that begin with a term.

    Args:
        scenario: The scenario of a run, or what all runs of a comparison share.
        arms: Scenarios of all runs of a comparison, whose defenses may hide single updates.

    Returns:
        Pairs of a term and one or more sentences about it, in reading order.
    """
    return paragraphs(
        "threat_model.txt",
        server=scenario.server,
        training=scenario.training,
        privacy=scenario.privacy,
        reconstructions=scenario.reconstructions,
        leaking=[entry for entry in scenario.roles if isinstance(entry, Leaking)],
        poisoning=[entry for entry in scenario.roles if isinstance(entry, Poisoning)],
        defenses=defense_settings(scenario),
        sums_updates=any(e.sums_updates for each in (scenario, *arms) for e in each.defenses),
        where=_where,
        attack_names=attack_names,
        most_images=max(map(most_images, scenario.reconstructions), default=MOST_IMAGES),
        no_protection=NO_PROTECTION,
    )


def defense_settings(scenario: Scenario) -> list[str]:
    """One sentence on each scheduled defense: its clients, its rounds and its settings."""
    sentences = []
    for entry in scenario.defenses:
        settings = entry.model_dump(exclude_none=True, exclude={"name", "rounds", "clients"})
        changed = entry.model_dump(exclude_defaults=True)
        values = [
            f"{key} {_text(value)}"
            for key, value in settings.items()
            if key in entry.strengths or key in changed
        ]
        sentences.append(f"{entry.name}, {_where(entry)}{': ' * bool(values)}{', '.join(values)}.")
    return sentences


def _where(entry: _Scheduled) -> str:
    """Clients and rounds of an entry in words."""

    def spelled(noun: str, numbers: str) -> str:
        if numbers == "all":
            return f"all {noun}s"
        return f"{noun}{'s' * (not numbers.isdecimal())} {numbers}"

    return f"{spelled('client', entry.clients)} in {spelled('round', entry.rounds)}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
