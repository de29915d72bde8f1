"""Switching a defense on or off from a round on, as a new scenario."""

from collections.abc import Iterable
from typing import Any

from fedlab.errors import BadInput
from fedlab.scenario import Scenario
from fedlab.schedule import resolve_clients, resolve_rounds, spell


def toggled(
    scenario: Scenario,
    name: str,
    *,
    on: bool,
    clients: Iterable[int],
    from_round: int,
    settings: dict[str, Any] | None = None,
) -> Scenario:
    """The scenario with one defense on or off for some clients, from a round to the last.

    Earlier rounds stay as they were, so the result describes the whole run and replays it.

    Args:
        scenario: As it stands.
        name: Of the defense, such as ``dp-sgd``.
        on: On or off.
        clients: Partition ids.
        from_round: The first round that changes.
        settings: Replace the defense's settings; those of its first entry in the scenario
            are the default, or else its own defaults.

    Raises:
        BadInput: If the defense is unknown, a client does not exist, the run is over, or the
            change would clash with another defense.
    """
    if from_round > scenario.rounds:
        raise BadInput(f"all {scenario.rounds} rounds are over, so nothing can be switched")
    who = frozenset(clients)
    if not who or min(who) < 0 or max(who) >= scenario.data.clients:
        raise BadInput(f"clients go from 0 to {scenario.data.clients - 1}, not {sorted(who)}")
    rows: list[dict[str, Any]] = []
    template: dict[str, Any] = {"name": name}
    for entry in scenario.defenses:
        row = entry.model_dump()
        if entry.name != name:
            rows.append(row)
            continue
        if len(template) == 1:
            template = dict(row)
        rounds = resolve_rounds(entry.rounds, scenario.rounds)
        members = resolve_clients(entry.clients, scenario.data.clients)
        earlier = {round for round in rounds if round < from_round}
        parts = [(earlier, members), (rounds - earlier, members - who)]
        rows += [row | {"rounds": spell(r), "clients": spell(c)} for r, c in parts if r and c]
    if on:
        when = spell(range(from_round, scenario.rounds + 1))
        rows.append(template | (settings or {}) | {"rounds": when, "clients": spell(who)})
    return scenario.changed(defenses=rows)
