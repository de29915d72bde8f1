"""Base classes of everything in a scenario file: frozen, and strict about their keys."""

import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fedlab.core.errors import nearest
from fedlab.core.schedule import ClientsText, RoundsText


class Settings(BaseModel):
    """A frozen table of a scenario, which refuses unknown keys and values out of range."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, given: Any) -> Any:
        unknown = (
            [str(k) for k in given if k not in cls.model_fields]
            if isinstance(given, Mapping)
            else []
        )
        if unknown:
            near = nearest(unknown[0], cls.model_fields)
            raise PydanticCustomError(
                "unknown_key", 'has no key "{key}"; {near}', {"key": unknown[0], "near": near}
            )
        return given


class Scheduled(Settings):
    """A table that applies to some rounds and some clients."""

    rounds: RoundsText = "all"
    """Rounds to which it applies, such as ``"all"``, ``"3-6"`` or ``"every 2"``."""
    clients: ClientsText = "all"
    """Clients to which it applies, such as ``"all"``, ``"0-3"`` or ``"20%"``."""


def value_of(text: str) -> Any:
    """The value of a setting on a command line: a TOML value, or else the text itself.

    Example:
        >>> value_of("0.5"), value_of("true"), value_of("fast")
        (0.5, True, 'fast')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def sentence(error: ValidationError) -> str:
    """The first mistake that a validation found, as one sentence that names the key."""
    first = error.errors()[0]
    where = first["loc"]
    table = ".".join(str(part) for part in where)
    if first["type"] == "unknown_key":
        return f"{table or 'the scenario'} {first['msg']}"
    if first["type"] == "union_tag_invalid":
        tag = first["ctx"]["tag"]
        expected = [name.strip("' ") for name in first["ctx"]["expected_tags"].split(",")]
        return f'{".".join(map(str, where))}: "{tag}" is unknown; {nearest(tag, expected)}'
    message = first["msg"].removeprefix("Value error, ")
    if not table:
        return message
    # A single wrong value is worth repeating, a whole table is not.
    whole = isinstance(first["input"], Mapping | list | tuple)
    return f"{table}: {message}" if whole else f"{table}: {message} (it is {first['input']!r})"
