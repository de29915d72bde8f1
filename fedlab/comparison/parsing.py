"""Defenses and aggregation rules of a comparison: read from text, tables or objects."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedlab.core.attack_plugins import PRESETS
from fedlab.core.errors import BadInput
from fedlab.core.plugins import Registry
from fedlab.core.settings import value_of
from fedlab.defenses import DEFENSES, Defense
from fedlab.scenario.rules import RULES
from fedlab.scenario.scenario import Scenario

_JOINT = re.compile(r"\+(?=\s*[A-Za-z_])")
"""The sign between two defenses; the one in ``1e+2`` is followed by a digit."""
_NAME = re.compile(r"[A-Za-z_][\w.]*")
"""A module or a class in an import path."""
SCHEDULE = frozenset({"rounds", "clients"})
"""Settings that a comparison gives every defense itself."""

SHAPE = "NAME:SETTING=VALUE:SETTING=VALUE"
"""How a name and its settings are written."""

NONE = "none"
"""The arm without a defense."""

ChosenDefense = str | Defense | Mapping[str, Any] | Sequence[str | Defense | Mapping[str, Any]]
"""A text such as ``dp-sgd:noise_multiplier=2``, ``mine.module:Mine:rate=0.2`` or
``mixup+pruning``; a defense; its settings with its ``name``; or several of these in the order in
which they run."""

ChosenRule = str | type | Mapping[str, Any]
"""A text such as ``Krum``, ``FedTrimmedAvg:beta=0.2`` or ``mine.module:Rule``; the class of a rule;
or its options with its ``name``."""


ChosenAttack = str | Mapping[str, Any]
"""A text such as ``fast`` or ``inverting-gradients:iterations=300``, or the settings of a
``[[reconstructions]]`` entry with its ``preset``."""


@dataclass(frozen=True)
class Choice:
    """A defense, an aggregation rule or an attack with its settings.

    Attributes:
        name: Name of the defense or rule, or preset of the attack.
        settings: Settings that differ from what holds otherwise.
        complete: True if settings that are not given have their defaults, also where the scenario
            sets them.
    """

    name: str
    settings: Mapping[str, Any]
    complete: bool = False

    def __str__(self) -> str:
        return ":".join(
            [self.name, *(f"{key}={setting_text(v)}" for key, v in self.settings.items())]
        )


def choice(text: str, known: Registry[Any] = DEFENSES) -> Choice:
    """Read a name and its settings.

    Args:
        text: Text such as ``dp-sgd``, ``dp-sgd:noise_multiplier=2:clipping_norm=0.5``, ``Krum`` or
            ``mine.module:Mine:rate=0.2``.
        known: Registry of the names. A name that it does not know, followed by a part without
            ``=``, is the module of an import path.

    Raises:
        BadInput: If a setting has no value.

    Example:
        >>> choice("dp-instahide:k=2").settings
        {'k': 2}
        >>> choice("mine.module:Mine:rate=0.2").name
        'mine.module:Mine'
    """
    name, *settings = (part.strip() for part in text.split(":"))
    if "(" in name:
        raise BadInput(f'"{text}" must be written as {SHAPE}')
    if settings and name not in known.names and all(map(_NAME.fullmatch, (name, settings[0]))):
        name = f"{name}:{settings.pop(0)}"
    read: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (name and key and equals and value):
            raise BadInput(f'"{text}" must be written as {SHAPE}')
        if key.strip() in read:
            raise BadInput(f'"{text}" sets {key.strip()} twice')
        read[key.strip()] = value_of(value)
    return Choice(name, read)


def rule_of(rule: ChosenRule) -> Choice:
    """Read an aggregation rule and its options.

    Args:
        rule: Text as ``choice`` reads it, a rule's class, or its options with its ``name``.

    Raises:
        BadInput: If the rule has no name, or an option has no value.
    """
    if isinstance(rule, type):
        short = rule.__name__
        known = short in RULES.names and RULES.get(short) is rule
        return Choice(short if known else RULES.name_of(rule), {})
    return _from_table(rule, "rule") if isinstance(rule, Mapping) else choice(rule, RULES)


def attack_of(attack: ChosenAttack) -> Choice:
    """Read an attack and its settings.

    Args:
        attack: Text as ``choice`` reads it, or settings with ``preset``.

    Raises:
        BadInput: If there is no such preset, or rounds or clients are given for it.
    """
    if isinstance(attack, str):
        found = choice(attack, PRESETS)
    else:
        settings = dict(attack)
        if "preset" not in settings:
            raise BadInput(f"an attack needs a preset: {settings}")
        found = Choice(str(settings.pop("preset")), settings)
    PRESETS.path(found.name)  # refuses an unknown name
    if scheduled := sorted(SCHEDULE & found.settings.keys()):
        raise BadInput(
            f"{found.name}: {scheduled[0]} cannot be set, since the attacks of a comparison stand "
            "where the scenario's own do"
        )
    return found


@dataclass(frozen=True)
class Arm:
    """The defenses that run together in all rounds and on all clients.

    Attributes:
        label: Name of the arm in tables and figures.
        choices: The defenses, in the order in which they run; empty in the open arm.
    """

    label: str
    choices: tuple[Choice, ...]

    def entries(self, scenario: Scenario) -> list[dict[str, Any]]:
        """The ``[[defenses]]`` entries of the arm, on all rounds and clients.

        Args:
            scenario: A setting that the arm leaves open is that of the first entry of the same
                defense in the scenario, or else the default.
        """
        found = []
        for each in self.choices:
            entries = (entry for entry in scenario.defenses if entry.name == each.name)
            first = None if each.complete else next(entries, None)
            own = first.model_dump(exclude_defaults=True) if first else {}
            schedule = {"name": each.name, "rounds": "all", "clients": "all"}
            found.append(own | schedule | dict(each.settings))
        return found

    def with_settings(self, settings: Mapping[str, Mapping[str, Any]]) -> "Arm":
        """The same arm with other settings of its defenses.

        Args:
            settings: New values by setting, by the name of the defense.
        """
        changed = [
            replace(each, settings={**each.settings, **settings.get(each.name, {})})
            for each in self.choices
        ]
        return Arm(self.label, tuple(changed))


def arm_of(defense: ChosenDefense) -> Arm:
    """The arm that a caller describes.

    Args:
        defense: The defense or defenses.

    Raises:
        BadInput: If there is no such defense, or rounds or clients are given for it.
    """
    parts = _choices(defense)
    for part in parts:
        if part.name == NONE:
            raise BadInput("none is an arm of its own, and is combined with nothing")
        DEFENSES.get(part.name)
        if scheduled := sorted(SCHEDULE & part.settings.keys()):
            raise BadInput(
                f"{part.name}: {scheduled[0]} cannot be set, since every defense of a comparison "
                "stands on all rounds and clients"
            )
    return Arm("+".join(map(str, parts)) or NONE, tuple(parts))


def distinct(what: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Check that there is at least one label and none twice.

    Args:
        what: Word for the labels in messages, such as ``defenses``.
        labels: The labels.

    Raises:
        BadInput: If there is none, or one is there twice.
    """
    found = tuple(labels)
    if not found:
        raise BadInput(f"a comparison needs at least one of its {what}")
    if twice := next((label for label in found if found.count(label) > 1), None):
        advice = f": give each its settings, as in {twice}:SETTING=VALUE"
        shown = advice if what in ("defenses", "rules") else ""
        raise BadInput(f'"{twice}" is twice among the {what} to compare{shown}')
    return found


def _choices(defense: ChosenDefense) -> list[Choice]:
    if isinstance(defense, str):
        text = defense.strip()
        return [] if text == NONE else [choice(part) for part in _JOINT.split(text)]
    if isinstance(defense, Defense):
        settings = defense.model_dump(exclude_defaults=True, exclude={"name"})
        return [Choice(defense.key, settings, complete=True)]
    if isinstance(defense, Mapping):
        return [_from_table(defense, "defense")]
    if isinstance(defense, Sequence):
        return [each for part in defense for each in _choices(part)]
    raise BadInput(
        f"{defense!r} is no defense: give a text, a defense, its settings, or a list of these"
    )


def _from_table(table: Mapping[str, Any], kind: str) -> Choice:
    settings = dict(table)
    if "name" not in settings:
        raise BadInput(f"a {kind} needs a name: {settings}")
    return Choice(str(settings.pop("name")), settings)


def setting_text(value: Any) -> str:
    """The value of a setting as short as it can be read again."""
    if isinstance(value, bool):
        return str(value).lower()
    # Shortened where that is the same number, since a label can be read again.
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(value) if isinstance(value, float) and float(short) != value else short
