"""Toggles: a defense switched on or off from a round on, as a new scenario."""

from collections.abc import Iterable, Set
from typing import Any

from fedlab.core.errors import BadInput
from fedlab.core.schedule import resolve_clients, resolve_rounds, spell
from fedlab.defenses import DEFENSES
from fedlab.defenses.compatibility import place
from fedlab.scenario.scenario import Scenario


def toggled(
    scenario: Scenario,
    name: str,
    *,
    on: bool,
    clients: Iterable[int],
    from_round: int,
    rounds: str | int = "all",
    settings: dict[str, Any] | None = None,
) -> Scenario:
    """The scenario with one defense on or off for some clients, in rounds that are still to come.

    Earlier rounds stay as they were, so the result describes the whole run and replays it.

    Args:
        scenario: The scenario as it stands.
        name: Name of the defense, such as ``dp-sgd``.
        on: Whether to switch it on or off.
        clients: Partition ids of the clients.
        from_round: The first round that can change, counted from 1.
        rounds: Rounds to change, in the schedule language; see ``rounds_left``.
        settings: Settings of the defense to replace, only with ``on``. The others are those of its
            first entry in the scenario, or else its own defaults.

    Raises:
        BadInput: If the defense or a setting is unknown, a client or round does not exist, the
            rounds are over, or the change would clash with another defense.
    """
    DEFENSES.get(name)
    when = rounds_left(scenario, rounds, from_round=from_round)
    who = frozenset(clients)
    if not who or min(who) < 0 or max(who) >= scenario.data.clients:
        raise BadInput(f"clients go from 0 to {scenario.data.clients - 1}, not {sorted(who)}")
    if settings and not on:
        raise BadInput(f"{name} is switched off, so it takes no {next(iter(settings))}")
    if not on:
        return scenario.changed(defenses=_without(scenario, name, when, who))
    try:
        return _with(scenario, name, when, who, settings or {})
    except BadInput as error:
        free = _without_another(scenario, name, when, who)
        if free in (when, frozenset()):
            raise
        # Raises by itself if the conflict is not the only problem.
        _with(scenario, name, free, who, settings or {})
        raise BadInput(
            f'{error}; rounds="{spell(free)}" switches it only where no other defense is on'
        ) from error


def rounds_left(scenario: Scenario, rounds: str | int, *, from_round: int) -> frozenset[int]:
    """The rounds of a text that are still to come.

    Args:
        scenario: The scenario, which says how many rounds there are.
        rounds: A text of the schedule language, such as ``"4-6"``; ``"all"`` means all rounds that
            are still to come.
        from_round: The next round, counted from 1.

    Returns:
        The round numbers, at least one.

    Raises:
        BadInput: If the text cannot be read, or all of its rounds are over.
    """
    if from_round > scenario.rounds:
        raise BadInput(f"all {scenario.rounds} rounds are over, so nothing can be switched")
    try:
        named = resolve_rounds(str(rounds), scenario.rounds)
    except ValueError as error:
        raise BadInput(str(error)) from error
    left = frozenset(round for round in named if round >= from_round)
    if not left:
        raise BadInput(f'rounds "{rounds}" are over: the next round is {from_round}')
    return left


def _with(
    scenario: Scenario, name: str, when: Set[int], who: Set[int], settings: dict[str, Any]
) -> Scenario:
    template = next((e.model_dump() for e in scenario.defenses if e.name == name), {"name": name})
    added = template | settings | {"rounds": spell(when), "clients": spell(who)}
    others = scenario.changed(defenses=_without(scenario, name, when, who)).defenses
    alone = scenario.changed(defenses=[added]).defenses[0]
    where = place(others, alone)
    return scenario.changed(defenses=[*others[:where], alone, *others[where:]])


def _without(scenario: Scenario, name: str, when: Set[int], who: Set[int]) -> list[dict[str, Any]]:
    """The entries of all defenses, without some rounds and clients of one of them."""
    rows: list[dict[str, Any]] = []
    for entry in scenario.defenses:
        row = entry.model_dump()
        if entry.name != name:
            rows.append(row)
            continue
        rounds = resolve_rounds(entry.rounds, scenario.rounds)
        members = resolve_clients(entry.clients, scenario.data.clients)
        parts = [(rounds - when, members), (rounds & when, members - who)]
        rows += [row | {"rounds": spell(r), "clients": spell(c)} for r, c in parts if r and c]
    return rows


def _without_another(
    scenario: Scenario, name: str, when: Set[int], who: Set[int]
) -> frozenset[int]:
    """The rounds in which these clients run no other defense."""
    return frozenset(
        round
        for round in when
        if all(
            entry.name == name
            for client in who
            for entry in scenario.scheduled_defenses(round=round, client=client)
        )
    )
