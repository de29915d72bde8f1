"""Settings that a comparison varies beside defenses, rules and seeds."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fedlab.comparison.parsing import Arm, distinct, setting_text
from fedlab.core.errors import BadInput
from fedlab.core.settings import value_of
from fedlab.scenario.scenario import Scenario

COLUMN = "grid."
"""First letters of the columns with the values of swept settings."""

OF_DEFENSES = "defenses."
"""First letters of the paths of settings of a compared defense."""

Sweep = Mapping[str, Sequence[Any]]
"""Values of each swept setting, by its path in the scenario, such as ``training.lr``."""


@dataclass(frozen=True)
class Point:
    """One combination of values of the swept settings.

    Attributes:
        values: Value of each setting, by its path.
    """

    values: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The values in words, with short names of the settings; empty without a sweep."""
        short = short_names(self.values)
        return " ".join(f"{short[key]}={setting_text(v)}" for key, v in self.values.items())

    def of(self, arm: Arm) -> "Point":
        """The values that mean anything to an arm: those for other defenses are left out."""
        names = {choice.name for choice in arm.choices}
        others = {f"{OF_DEFENSES}{n}.{s}" for (n, s), _ in self._of_defenses() if n not in names}
        return Point({key: value for key, value in self.values.items() if key not in others})

    def arm(self, arm: Arm) -> Arm:
        """An arm whose defenses have the values that are meant for them."""
        own = {
            name: {key: value for (which, key), value in self._of_defenses() if which == name}
            for name in (choice.name for choice in arm.choices)
        }
        return arm.with_settings(own)

    def scenario(self, scenario: Scenario) -> Scenario:
        """A scenario with all values but those for the defenses of an arm.

        Raises:
            BadInput: If it cannot have one of them.
        """
        others = {k: v for k, v in self.values.items() if not k.startswith(OF_DEFENSES)}
        return scenario.with_settings(others)

    def _of_defenses(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for key, value in self.values.items():
            if key.startswith(OF_DEFENSES):
                name, _, setting = key.removeprefix(OF_DEFENSES).rpartition(".")
                yield (name, setting), value


def points_of(sweep: Sweep, arms: Sequence[Arm]) -> list[Point]:
    """All combinations of values, the last setting varying fastest; one point without a sweep.

    Raises:
        BadInput: If a setting has no value or one twice, or is that of a defense in no arm.
    """
    compared = {choice.name for arm in arms for choice in arm.choices}
    for key, values in sweep.items():
        if key == "seed":
            raise BadInput("the seed is swept by seeds, and not by the grid")
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise BadInput(f"the values of {key} are a list, and not {values!r}")
        distinct(f"values of {key}", map(setting_text, values))
        if key.startswith(OF_DEFENSES):
            name, _, setting = key.removeprefix(OF_DEFENSES).rpartition(".")
            if not name or not setting:
                raise BadInput(f"{key}: write the setting of a defense as defenses.NAME.SETTING")
            if name not in compared:
                raise BadInput(f'{key}: "{name}" is none of the defenses that are compared')
    return [Point(dict(zip(sweep, values, strict=True))) for values in product(*sweep.values())]


def read_sweep(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read swept settings from a command line.

    Args:
        texts: Settings with values, such as ``training.lr=0.01,0.1`` or ``model.name=lenet,mlp``.

    Raises:
        BadInput: If a text is no setting with values, or a setting is given twice.

    Example:
        >>> read_sweep(["training.lr=0.01,0.1", "model.name=lenet,mlp"])
        {'training.lr': [0.01, 0.1], 'model.name': ['lenet', 'mlp']}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = (part.strip() for part in text.partition("="))
        if not key or not values:
            raise BadInput(f'"{text}" sweeps nothing: write it as --grid training.lr=0.01,0.1')
        if key in found:
            raise BadInput(f"--grid names {key} twice")
        try:
            found[key] = tomllib.loads(f"values = [{values}]")["values"]
        except (ValueError, RecursionError):
            found[key] = [value_of(part) for part in values.split(",")]
    return found


def grid_text(values: Sequence[Any]) -> str:
    """The values of a swept setting as ``read_sweep`` reads them again.

    Example:
        >>> grid_text([0.01, "0,2", True])
        '0.01,"0,2",true'
    """
    return ",".join(json.dumps(v) if isinstance(v, str) else setting_text(v) for v in values)


def short_names(paths: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    """The shortest endings of paths that tell them apart and say what they are, by path.

    Example:
        >>> short_names(["training.lr", "roles.0.batch_size"])
        {'training.lr': 'lr', 'roles.0.batch_size': 'batch_size'}
        >>> short_names(["training.batch_size", "roles.0.batch_size"])
        {'training.batch_size': 'training.batch_size', 'roles.0.batch_size': '0.batch_size'}
        >>> short_names(["model.name"])
        {'model.name': 'model.name'}
    """
    found = {}
    for path in paths:
        parts = path.split(".")
        others = [f".{other}" for other in paths if other != path]
        least = 2 if parts[-1] == "name" else 1
        endings = (".".join(parts[-length:]) for length in range(least, len(parts) + 1))
        alone = (e for e in endings if not any(other.endswith(f".{e}") for other in others))
        found[path] = next(alone, path)
    return found
