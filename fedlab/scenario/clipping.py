"""A schedule that is cut to fewer rounds, as ``--set rounds=2`` asks for."""

import logging
from collections.abc import Sequence
from typing import Any

from fedlab.core.schedule import MOST, resolve_rounds, spell

LISTS = ("roles", "defenses", "reconstructions")
"""Lists of a scenario whose entries name rounds."""

log = logging.getLogger(__name__)


def clip_schedule(table: dict[str, Any], before: Any) -> None:
    """Cut the rounds out of a schedule that a scenario with fewer rounds does not have.

    Entries that would name no round are left out, and the log names all that change. What cannot be
    read stays as it is, for the validation to refuse.

    Args:
        table: The scenario as nested tables, with the new number of rounds; changed in place.
        before: Number of rounds for which the schedule was written.
    """
    rounds = table.get("rounds", 1)
    if not (type(rounds) is type(before) is int and 1 <= rounds < before <= MOST):
        return
    notes: list[str] = []
    for key in LISTS:
        if isinstance(table.get(key), list | tuple):
            entries = [_clipped(entry, before, rounds) for entry in table[key]]
            names = [f"{key}.{index}" for index in range(len(entries))]
            notes += _notes(names, table[key], entries)
            table[key] = [entry for entry in entries if entry is not None]
    server = table.get("server")
    if isinstance(server, dict) and "malicious" in server:
        malicious = _clipped(server["malicious"], before, rounds)
        notes += _notes(["server.malicious"], [server["malicious"]], [malicious])
        table["server"] = server | {"malicious": malicious}
    if notes:
        named = ", ".join(notes)
        log.warning("rounds = %d instead of %d cuts the schedule: %s", rounds, before, named)


def _clipped(entry: Any, before: int, rounds: int) -> Any:
    """An entry without the rounds after the last one; ``None`` if none is left."""
    text = entry.get("rounds") if isinstance(entry, dict) else None
    if not isinstance(text, str | int):
        return entry
    try:
        named = resolve_rounds(str(text), before)
    except ValueError:
        return entry
    left = {round for round in named if round <= rounds}
    if not left:
        return None
    try:
        resolve_rounds(str(text), rounds)
    except ValueError:
        return entry | {"rounds": spell(left)}
    return entry


def _notes(names: Sequence[str], before: Sequence[Any], after: Sequence[Any]) -> list[str]:
    """Which entries changed, and how."""
    return [
        f"{name} ({old['rounds']}) " + ("is left out" if new is None else f"keeps {new['rounds']}")
        for name, old, new in zip(names, before, after, strict=True)
        if new is not old
    ]
