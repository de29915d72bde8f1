"""The base of everything that a scenario file holds: frozen, and strict about its keys."""

import tomllib
from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen table of a scenario; an unknown key or a value out of range is refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


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
