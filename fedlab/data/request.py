"""Settings of the table ``[data]`` as the function of a data set receives them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
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
        label_by: Name of the column with the labels; ``None`` to find it.
        group_by: Name of the column that says where each image comes from.
    """

    argument: str
    root: Path
    download: bool = False
    image_size: int | None = None
    label_by: str | None = None
    group_by: str | None = None


def takes_argument(name: str) -> Callable[[Function], Function]:
    """Mark a data set that a scenario names with a colon and an argument behind it.

    Args:
        name: Name of the argument in messages and lists, such as ``PATH``.
    """

    def mark(function: Function) -> Function:
        function.argument = name  # type: ignore[attr-defined]
        return function

    return mark


def reads(*options: str) -> Callable[[Function], Function]:
    """Mark which settings of a ``Request`` a data set uses, so that others are refused.

    Args:
        *options: Names of the settings, without the argument; a data set without this mark may use
            all of them.
    """

    def mark(function: Function) -> Function:
        function.reads = options  # type: ignore[attr-defined]
        return function

    return mark


def takes_request(function: Callable[..., Any]) -> bool:
    """True if a data set is called with a ``Request``."""
    try:
        return "request" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return False


def unused_option(function: Callable[..., Any], request: Request) -> str | None:
    """Name of a setting that differs from its default, and that a data set does not use."""
    every = tuple(field.name for field in fields(Request)) if takes_request(function) else ()
    used = getattr(function, "reads", every)
    given = [f.name for f in fields(Request) if getattr(request, f.name) not in (f.default, "")]
    return next((n for n in given if n not in ("argument", "root", *used)), None)


def argument_of(function: Callable[..., Any]) -> str:
    """Name of the argument that a data set takes; empty if it takes none."""
    return str(getattr(function, "argument", ""))
