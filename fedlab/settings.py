"""The base of everything that a scenario file holds: frozen, and strict about its keys."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen table of a scenario; an unknown key or a value out of range is refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
