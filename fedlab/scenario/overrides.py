"""Settings of a scenario that a command line or a caller replaces, such as ``training.lr=0.05``."""

from typing import Any

from fedlab.core.errors import BadInput
from fedlab.core.settings import value_of


def apply_override(table: dict[str, Any], override: str) -> None:
    """Replace one setting in the tables of a scenario.

    Args:
        table: The scenario as nested tables; changed in place.
        override: The setting and its value, such as ``"training.lr=0.05"``,
            ``"roles.0.batch_size=4"`` or ``"defenses.dp-sgd.noise_multiplier=0"`` (every entry of
            that name).

    Raises:
        BadInput: If the text is no setting, or its path leads nowhere.

    Example:
        >>> table = {"training": {"lr": 0.1}}
        >>> apply_override(table, "training.lr=0.05")
        >>> table
        {'training': {'lr': 0.05}}
    """
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise BadInput(f'"{override}" is no setting: write it as --set training.lr=0.05')
    set_value(table, path.strip(), value_of(text))


def set_value(table: dict[str, Any], path: str, value: Any) -> None:
    """Replace one setting in the tables of a scenario.

    Args:
        table: The scenario as nested tables; changed in place.
        path: The setting, such as ``"roles.0.batch_size"``; see ``apply_override``.
        value: Its new value.

    Raises:
        BadInput: If the path leads nowhere.
    """
    *parents, last = path.split(".")
    places: list[Any] = [table]
    for key in parents:
        places = [inner for place in places for inner in _descend(place, key, path)]
    for place in places:
        if not isinstance(place, dict):
            what = "a list" if isinstance(place, list) else "a value"
            raise BadInput(f'"{path}" ends at {what}; name one of its settings')
        place[last] = value


def _descend(place: Any, key: str, path: str) -> list[Any]:
    """Tables one step down the path: by key, by index, or all entries of a list with that name."""
    if not isinstance(place, dict | list):
        raise BadInput(f'"{path}" does not lead anywhere: "{key}" is below a value')
    if isinstance(place, list):
        if key.isdecimal() and int(key[:9]) < len(place):
            return [place[int(key[:9])]]
        tables = [entry for entry in place if isinstance(entry, dict)]
        named = [entry for entry in tables if key in (entry.get("name"), entry.get("role"))]
        if named:
            return named
        raise BadInput(f'"{path}" does not lead anywhere: there is no entry "{key}"')
    if key.isdecimal():
        raise BadInput(f'"{path}" does not lead anywhere: there is no entry {key}')
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise BadInput(f'"{path}" does not lead anywhere: "{key}" is a value, not a table')
    return [inner]
