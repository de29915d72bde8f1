"""Base classes of everything in a scenario file: frozen, and strict about their keys."""

import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from fedlab.core.errors import nearest
from fedlab.core.schedule import ClientsText, RoundsText


class Settings(BaseModel):
    """A frozen table of a scenario; an unknown key or a value out of range is refused."""

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
    """A value as a command line gives it: as TOML has it, or the text itself where it is none.

    Example:
        >>> value_of("0.5"), value_of("true"), value_of("fast")
        (0.5, True, 'fast')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
