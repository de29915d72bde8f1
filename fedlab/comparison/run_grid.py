"""The runs of a comparison: every defense, aggregation rule, swept setting and seed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fedlab.comparison.parsing import Arm, Choice, distinct
from fedlab.comparison.sweep import Point, Sweep, points_of
from fedlab.core.errors import BadInput
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct
from fedlab.server.aggregation import Aggregation

TUNED = frozenset(
    {"tv", "lr", "restarts", "objective", "mask", "patience", "method", "priors", "label_rule"}
)
"""Settings of a ``[[reconstructions]]`` entry that are tuned for its own preset."""

DEFAULT_PRESET = Reconstruct().preset
"""Preset of an entry that names none."""


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        defense: Label of the defenses.
        rule: Label of the aggregation rule.
        point: Values of the swept settings, without those for defenses of other cells.
        seed: Root seed.
        scenario: The scenario of the run.
        name: Name of the run, which can be the name of a folder.
    """

    defense: str
    rule: str
    point: Point
    seed: int
    scenario: Scenario
    name: str


def cells_of(
    scenario: Scenario,
    arms: Sequence[Arm],
    *,
    attacks: Sequence[Choice] | None,
    seeds: Sequence[int],
    rules: Sequence[Choice] | None,
    sweep: Sweep | None = None,
) -> list[Cell]:
    """List all runs, in the order of the arms, rules, swept settings and seeds.

    Attacks do not change what is trained, so one run carries all of them.

    Args:
        scenario: Scenario whose roles, data, network and training all runs share.
        arms: Defenses, in place of the scenario's own.
        attacks: Attacks, in place of the presets of the scenario's reconstructions; ``None``
            keeps these.
        seeds: Root seeds.
        rules: Aggregation rules, in place of the scenario's own; ``None`` keeps it.
        sweep: Settings that take several values.

    Raises:
        BadInput: If one of the runs cannot work.
    """
    base = scenario.changed(
        # Same bits as with Ray; a comparison runs several runs at a time by itself.
        engine=scenario.engine.model_dump() | {"name": "in-process", "address": None},
        **({} if attacks is None else {"reconstructions": _attacked_by(scenario, attacks)}),
    )
    own = Choice(scenario.server.strategy, scenario.server.options)
    points = points_of(sweep or {}, arms)
    found: list[Cell] = []
    for arm, rule, point, seed in (
        (each, *others)
        for each in arms
        for others in product(rules or [own], _points(each, points), seeds)
    ):
        options = own.settings if rule.name == own.name and not rule.settings else rule.settings
        label = rule.name if rule == own else str(rule)
        server = scenario.server.model_dump() | {"strategy": rule.name, "options": dict(options)}
        try:
            chosen = base.changed(server=server, defenses=point.arm(arm).entries(scenario))
            changed = point.scenario(chosen).changed(seed=seed)
            Aggregation.of(changed)  # refuses a rule that no run could use
        except BadInput as error:
            where = f" at {point.label}" if point.values else ""
            raise BadInput(f"{arm.label} under {label}{where}: {error}") from error
        name = _name(arm.label, label, point.label, seed)
        found.append(Cell(arm.label, label, point, seed, changed, name))
    distinct("runs", (cell.name for cell in found))
    return found


def _points(arm: Arm, points: Sequence[Point]) -> list[Point]:
    """The points of an arm: those that differ in settings of other arms alone are one."""
    return list({point.label: point for point in (each.of(arm) for each in points)}.values())


def _name(defense: str, rule: str, point: str, seed: int) -> str:
    words = " ".join(filter(None, (defense, rule, point, f"seed {seed}")))
    return re.sub(r"[^A-Za-z0-9.+=_-]+", "-", words)


def _attacked_by(scenario: Scenario, attacks: Sequence[Choice]) -> list[dict[str, Any]]:
    """The scenario's reconstructions by other attacks, or attacks on all leaking clients.

    An entry keeps its clients, its knowledge and its budget where the attack sets no other;
    settings that were tuned for its own preset are left out.
    """
    scheduled = [entry.model_dump(exclude_defaults=True) for entry in scenario.reconstructions]
    leaking = [
        {"rounds": role.rounds, "clients": role.clients}
        for role in scenario.roles
        if isinstance(role, Leaking)
    ]
    if attacks and not scheduled and not leaking:
        raise BadInput(
            "attacks have nobody to attack: give the scenario a leaking role or [[reconstructions]]"
        )
    entries: list[dict[str, Any]] = []
    for entry, attack in product(scheduled or leaking, attacks):
        same = entry.get("preset", DEFAULT_PRESET) == attack.name
        kept = {key: value for key, value in entry.items() if same or key not in TUNED}
        changed = {**kept, "preset": attack.name, **attack.settings}
        if changed not in entries:
            entries.append(changed)
    return entries
