"""The parts of a toggle: the clients that a caller names, and the line of ``toggles.jsonl``."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from fedlab.core.errors import BadInput
from fedlab.core.schedule import resolve_clients, spell
from fedlab.scenario.scenario import Scenario


def named_clients(chosen: Iterable[int] | str, count: int) -> frozenset[int]:
    """The partition ids that a caller names, as plain integers.

    Args:
        chosen: Partition ids, or a text of the schedule's language.
        count: Number of clients of the federation.

    Raises:
        BadInput: If the text cannot be read, or an id is no whole number.
    """
    try:
        if isinstance(chosen, str):
            return resolve_clients(chosen, count)
        return frozenset(map(operator.index, chosen))
    except ValueError as error:
        raise BadInput(str(error)) from error
    except TypeError as error:
        raise BadInput(f"clients are whole numbers or a text, not {chosen!r}") from error


def toggle_event(
    scenario: Scenario,
    defense: str,
    *,
    on: bool,
    clients: frozenset[int],
    rounds: frozenset[int],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """A toggle as JSON values, for ``toggles.jsonl``.

    Args:
        scenario: The scenario after the toggle.
        defense: Name of the defense.
        on: True if it was switched on.
        clients: Partition ids for which it was switched.
        rounds: Rounds in which it was switched.
        settings: Settings that the caller gave; their values are noted as the scenario took them,
            so that a number of NumPy is a plain one.
    """
    entries = scenario.scheduled_defenses(round=min(rounds), client=min(clients))
    taken = {
        key: getattr(entry, key) for entry in entries if entry.name == defense for key in settings
    }
    return {
        "rounds": spell(rounds),
        "defense": defense,
        "on": on,
        "clients": sorted(clients),
        "settings": taken,
    }
