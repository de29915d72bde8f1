"""The keys of a scenario, from the classes that check it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import PlainSerializer
from pydantic.fields import FieldInfo

from docs.generated.docstrings import paragraphs
from fedlab.core.plugins import Plugin
from fedlab.core.settings import LARGEST, Settings
from fedlab.scenario.scenario import Scenario

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class Key:
    """A key of a scenario.

    Attributes:
        path: Its table and name, such as ``training.lr``.
        kind: Type and range in words.
        default: Default as TOML has it, or ``not set``.
        text: Description, with the unit.
    """

    path: str
    kind: str
    default: str
    text: str

    @property
    def markdown(self) -> str:
        """The key as an entry of the reference."""
        return (
            f":::{{key}} {self.path}\n*{self.kind}; default* {self.default}\n\n{self.text}\n:::\n"
        )


@dataclass(frozen=True)
class Table:
    """A table of a scenario, in one of its forms.

    Attributes:
        path: Path of the table; empty for the top of the file.
        repeated: True for an array of tables.
        model: Class that checks it.
    """

    path: str
    repeated: bool
    model: type[Settings]

    @property
    def title(self) -> str:
        """Heading, such as ``[[roles]] with role = "leaking"``."""
        if not self.path:
            return "Top of the file"
        header = f"[[{self.path}]]" if self.repeated else f"[{self.path}]"
        form = [f'{name} = "{value}"' for name, value in self._fixed]
        return f"`{header}`" + "".join(f" with `{each}`" for each in form)

    @property
    def keys(self) -> list[Key]:
        """The keys that are no tables of their own."""
        fixed = dict(self._fixed)
        # The paths of entries are those of --set and --grid: roles.leaking.batch_size.
        form = [*fixed.values()] if self.repeated else []
        path = ".".join([self.path, *form])
        return [
            key_of(f"{path}.{name}".lstrip("."), field)
            for name, field in self.model.model_fields.items()
            if name not in fixed and not list(_tables_in(field))
        ]

    @property
    def _fixed(self) -> list[tuple[str, str]]:
        """Keys with one possible value, which name the form of the table."""
        found = []
        for name, field in self.model.model_fields.items():
            values = get_args(field.annotation)
            if get_origin(field.annotation) is Literal and len(values) == 1:
                found.append((name, values[0]))
        return found


def tables(model: type[Settings] = Scenario, path: str = "") -> Iterator[Table]:
    """A table and all tables in it, apart from those of plug-ins."""
    if not path:
        yield Table("", False, model)
    for name, field in model.model_fields.items():
        for inner in _tables_in(field):
            own = f"{path}.{name}".lstrip(".")
            yield Table(own, get_origin(field.annotation) is tuple, inner)
            yield from tables(inner, own)


def key_of(path: str, field: FieldInfo) -> Key:
    """The description of a key from its field.

    Args:
        path: Table and name of the key.
        field: The field of the class that checks it.
    """
    return Key(
        path,
        _kind(field.annotation, list(field.metadata)),
        _default(field),
        " ".join((field.description or "").split()),
    )


def markdown() -> str:
    """All tables of a scenario, for the reference."""
    parts: list[str] = []
    described: set[str] = set()
    for table in tables():
        parts.append(f"## {table.title}\n")
        if table.path:
            parts += [f"{each}\n" for each in paragraphs(table.model.__doc__)]
        # Forms of one table may share keys, whose description is linked to once.
        if again := [f"`{key.path}`" for key in table.keys if key.path in described]:
            parts.append(f"As above: {', '.join(again)}.\n")
        parts += [key.markdown for key in table.keys if key.path not in described]
        described |= {key.path for key in table.keys}
    return "\n".join(parts)


def _parts(annotation: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _tables_in(field: FieldInfo) -> Iterator[type[Settings]]:
    for part in _parts(field.annotation):
        if isinstance(part, type) and issubclass(part, Settings) and not issubclass(part, Plugin):
            yield part


def _kind(annotation: Any, metadata: Iterable[Any]) -> str:
    """Type and range in words."""
    origin, parts, metadata = get_origin(annotation), get_args(annotation), list(metadata)
    if any(isinstance(each, PlainSerializer) for each in (*metadata, *parts)):
        return "table of numbers by name"
    if origin is Annotated:
        inner = [m for each in parts[1:] for m in getattr(each, "metadata", [each])]
        return _kind(parts[0], [*metadata, *inner])
    if origin is Literal:
        return _either([f"`{each}`" for each in parts])
    if origin in (Union, UnionType):
        kinds = [_kind(part, metadata) for part in parts if part is not type(None)]
        return _either(list(dict.fromkeys(kinds)))
    if origin is dict:
        return "table" if parts[1] is Any else f"table, each value a {_kind(parts[1], ())}"
    if origin is tuple:
        return (
            f"list, each a {_kind(parts[0], ())}"
            if ... in parts
            else f"list of {len(parts)} values"
        )
    if isinstance(annotation, type) and issubclass(annotation, Plugin):
        return f"table with the `{annotation.tag}` of its {annotation.registry.kind}"
    span = _range(metadata) if annotation in (int, float) else ""
    return f"{_WORDS[annotation]} {span}".strip()


def _either(words: list[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _range(metadata: Iterable[Any]) -> str:
    """The range of a number in words; limits that 64 bits set are left out."""
    lows, highs = [], []
    for each in metadata:
        if isinstance(each, Ge):
            lows.append(f"at least {each.ge:,}")
        elif isinstance(each, Gt):
            lows.append(f"above {each.gt:,}")
        elif isinstance(each, Le) and each.le < LARGEST:
            highs.append((each.le, f"at most {each.le:,}"))
        elif isinstance(each, Lt):
            highs.append((each.lt, f"below {each.lt:,}"))
    words = " and ".join([*lows[:1], *(text for _, text in sorted(highs)[:1])])
    return re.sub("at least (.*) and at most ", r"from \1 to ", words)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none: it must be given"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and len(str(value)) > 6 and (value * 255).is_integer():
        return f"`{round(value * 255)}/255`"
    if isinstance(value, int | float):
        return f"`{value:,}`" if isinstance(value, int) else f"`{value:g}`"
    return f'`"{value}"`' if isinstance(value, str) else "empty"
