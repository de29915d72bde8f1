"""Base classes of everything in a scenario file: frozen, and strict about their keys."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from fedlab.core.errors import BadInput, nearest
from fedlab.core.schedule import ClientsText, RoundsText

Count = Annotated[int, Field(le=1_000_000)]
"""A number of steps, images or other things of which a million is more than anybody runs."""

LARGEST = 2**63 - 1
"""Largest whole number anywhere in a scenario: the largest of TOML, PyTorch and Flower."""

LONGEST = 80
"""Number of letters of a wrong value that a message repeats."""


class Settings(BaseModel):
    """A frozen table of a scenario, which refuses unknown keys and values out of range."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    if not TYPE_CHECKING:  # type checkers know the fields

        def __init__(self, /, **given: Any) -> None:
            try:
                super().__init__(**given)
            except ValidationError as error:
                raise BadInput(sentence(error)) from error

        # Tables within others are then validated without it, so that messages name the whole key.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Make the settings from a table.

        Raises:
            BadInput: If the table is not valid.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise BadInput(sentence(error)) from error

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_no_table_has(cls, given: Any) -> Any:
        unknown = (
            [str(k) for k in given if k not in cls.model_fields]
            if isinstance(given, Mapping)
            else []
        )
        if unknown:
            near = nearest(unknown[0], cls.model_fields)
            raise PydanticCustomError(
                "of_table", "{text}", {"text": f'has no key "{_short(unknown[0])}"; {near}'}
            )
        if truth := _truth_for_a_number(given, cls.model_fields):
            raise PydanticCustomError("of_table", "{text}", {"text": truth})
        if huge := _huge_number(given):
            raise PydanticCustomError(
                "of_table", "{text}", {"text": f"has a number beyond 64 bits in {huge}"}
            )
        return given


class Scheduled(Settings):
    """A table that applies to some rounds and some clients."""

    rounds: RoundsText = "all"
    """Rounds to which it applies, such as ``"all"``, ``"3-6"`` or ``"every 2"``."""
    clients: ClientsText = "all"
    """Clients to which it applies, such as ``"all"``, ``"0-3"`` or ``"20%"``."""

    @property
    def unscheduled(self) -> Self:
        """The table for all rounds and clients, to compare the other settings of two tables."""
        return self.model_copy(update={"rounds": "all", "clients": "all"})


def value_of(text: str) -> Any:
    """The value of a setting on a command line: a TOML value, or else the text itself.

    Example:
        >>> value_of("0.5"), value_of("true"), value_of("fast")
        (0.5, True, 'fast')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also numbers of thousands of digits
        return text.strip()


def sentence(error: ValidationError) -> str:
    """The first mistake that a validation found, as one sentence that names the key."""
    first = error.errors()[0]
    where = first["loc"]
    table = ".".join(str(part) for part in where)
    if first["type"] == "of_table":
        return f"{table or 'the scenario'} {first['msg']}"
    if first["type"] == "union_tag_invalid":
        tag = first["ctx"]["tag"]
        expected = [name.strip("' ") for name in first["ctx"]["expected_tags"].split(",")]
        return f'{table}: "{_short(tag)}" is unknown; {nearest(tag, expected)}'
    message = first["msg"].removeprefix("Value error, ")
    if not table:
        return message
    # A single wrong value is worth repeating, a whole table is not.
    whole = isinstance(first["input"], Mapping | list | tuple)
    return f"{table}: {message}" if whole else f"{table}: {message} (it is {_repr(first['input'])})"


def _truth_for_a_number(table: Any, fields: Mapping[str, FieldInfo]) -> str:
    """What is wrong if a table has true or false for a number, which would count as 1 or 0."""
    for key, value in table.items() if isinstance(table, Mapping) else ():
        if not isinstance(value, bool):
            continue
        kinds = set(_kinds(fields[key].annotation))
        if kinds & {int, float} and not kinds & {bool, True, False}:
            return f"has {str(value).lower()} for {key}, which is a number"
    return ""


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _huge_number(table: Any) -> str:
    """Key of a number beyond 64 bits in a table and the tables and lists within it, or nothing."""
    waiting = [("", table)]
    while waiting:
        key, each = waiting.pop()
        if isinstance(each, int) and abs(each) > LARGEST:
            return key.lstrip(".")
        if isinstance(each, Mapping):
            waiting += [(f"{key}.{name}", value) for name, value in each.items()]
        elif isinstance(each, list | tuple):
            waiting += [(f"{key}.{place}", value) for place, value in enumerate(each)]
    return ""


def _repr(value: Any) -> str:
    try:
        return _short(repr(value))
    except Exception:  # somebody else's object, or a number of more digits than Python prints
        return f"a {type(value).__name__}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
