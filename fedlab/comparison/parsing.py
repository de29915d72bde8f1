"""What a comparison varies, as people write it: names with settings after colons."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedlab.core.errors import BadInput
from fedlab.core.settings import value_of
from fedlab.defenses import DEFENSES
from fedlab.scenario.scenario import Scenario

_JOINT = re.compile(r"\+(?=\s*[a-z])")
"""What joins two defenses, but not the digits of 1e+2."""

NONE = "none"
"""The arm in which nobody defends itself."""

Defense = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A text such as ``dp-sgd:noise_multiplier=2`` or ``mixup+pruning``, one defense's settings with
its ``name``, or several in the order in which they run."""


@dataclass(frozen=True)
class Choice:
    """One value of what is varied.

    Attributes:
        name: Of a defense or an aggregation rule.
        settings: That were given for it.
    """

    name: str
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{key}={_text(v)}" for key, v in self.settings.items())])


def choice(text: str) -> Choice:
    """Read a name and its settings.

    Args:
        text: Such as ``dp-sgd``, ``dp-sgd:noise_multiplier=2:clipping_norm=0.5`` or ``Krum``.

    Raises:
        BadInput: If a setting has no value.

    Example:
        >>> choice("dp-instahide:k=2").settings
        {'k': 2}
    """
    name, *settings = (part.strip() for part in text.split(":"))
    read: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (name and key and equals and value):
            raise BadInput(f'"{text}" must be written as NAME:SETTING=VALUE:SETTING=VALUE')
        if key.strip() in read:
            raise BadInput(f'"{text}" sets {key.strip()} twice')
        read[key.strip()] = value_of(value)
    return Choice(name, read)


@dataclass(frozen=True)
class Arm:
    """The defenses that stand together on all rounds.

    Attributes:
        label: What tables and figures call it.
        choices: In the order in which they run; none in the open arm.
    """

    label: str
    choices: tuple[Choice, ...]

    def entries(self, scenario: Scenario) -> list[dict[str, Any]]:
        """The ``[[defenses]]`` entries: on all rounds and clients, with the scenario's settings.

        What the first entry of that name sets in the scenario holds where the arm says nothing.
        """
        found = []
        for each in self.choices:
            entries = (entry for entry in scenario.defenses if entry.name == each.name)
            first = next(entries, None)
            own = first.model_dump(exclude_defaults=True) if first else {}
            schedule = {"name": each.name, "rounds": "all", "clients": "all"}
            found.append(own | schedule | dict(each.settings))
        return found


def arm_of(defense: Defense) -> Arm:
    """The arm that somebody asks for.

    Raises:
        BadInput: If there is no such defense, or its schedule is set: it stands on all rounds.
    """
    if isinstance(defense, str):
        parts = [] if defense.strip() == NONE else [choice(part) for part in _JOINT.split(defense)]
    else:
        tables = [defense] if isinstance(defense, Mapping) else list(defense)
        parts = [_from_table(table) for table in tables]
    for part in parts:
        if part.name == NONE:
            raise BadInput("none is an arm of its own, and is combined with nothing")
        DEFENSES.get(part.name)
        if scheduled := sorted({"rounds", "clients"} & part.settings.keys()):
            raise BadInput(
                f"{part.name}: {scheduled[0]} cannot be set, since every defense of a comparison "
                "stands on all rounds and clients"
            )
    return Arm("+".join(map(str, parts)) or NONE, tuple(parts))


def distinct(what: str, labels: Iterable[str]) -> tuple[str, ...]:
    """The labels, of which there must be at least one and none twice.

    Raises:
        BadInput: If it is otherwise.
    """
    found = tuple(labels)
    if not found:
        raise BadInput(f"a comparison needs at least one of its {what}")
    if twice := next((label for label in found if found.count(label) > 1), None):
        raise BadInput(f'"{twice}" is twice among the {what} to compare')
    return found


def _from_table(table: Mapping[str, Any]) -> Choice:
    settings = dict(table)
    if "name" not in settings:
        raise BadInput(f"a defense needs a name: {dict(table)}")
    return Choice(str(settings.pop("name")), settings)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # Short where that is the same number: labels are read again by whoever repeats a comparison.
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(value) if isinstance(value, float) and float(short) != value else short
