"""Settings of the table ``[data]`` as the function of a data set receives them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Request:
    """Settings of the table ``[data]`` that a data set may need.

    Attributes:
        argument: Text after the colon of a source such as ``folder:PATH``; empty without a colon.
        root: Folder in which downloaded data sets are stored.
        download: True if missing files may be downloaded.
        image_size: Side in pixels to which images are resized; ``None`` keeps their size.
    """

    argument: str
    root: Path
    download: bool = False
    image_size: int | None = None


def takes_argument(name: str) -> Callable[[Function], Function]:
    """Mark a data set that a scenario names with a colon and an argument behind it.

    Args:
        name: Name of the argument in messages and lists, such as ``PATH``.
    """

    def mark(function: Function) -> Function:
        function.argument = name  # type: ignore[attr-defined]
        return function

    return mark


def argument_of(function: Callable[..., Any]) -> str:
    """Name of the argument that a data set takes; empty if it takes none."""
    return str(getattr(function, "argument", ""))
