"""How far a long task is, told where it is run: a bar in a terminal, one line in a notebook."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any, Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fedlab.core.consoles import complaints

_told: ContextVar[bool] = ContextVar("_told", default=False)
"""Whether a task is being told of, of which what is begun within it is a part."""


class Tell(Protocol):
    """Says how much of a task is done."""

    def __call__(self, done: float, words: str = "") -> None:
        """Say it.

        Args:
            done: Of the task's total, as counted so far.
            words: What is being done.
        """
        ...


@contextmanager
def progress(title: str, total: int, *, unit: str, done: int = 0) -> Iterator[Tell]:
    """Show how far a task is, with the time left, while the block runs.

    A notebook gets one line that is replaced, a terminal a bar on standard error that goes when it
    is over, and a pipe nothing. A task within another one is not told of.

    Args:
        title: What is done.
        total: Of the units to do.
        unit: Their name in the plural, such as ``rounds``.
        done: Of them before the block begins.
    """
    if _told.get():
        yield _silent
        return
    with silence():
        shown = _line if in_notebook() else _bar
        with shown(title, total, unit, done) as tell:
            yield tell


@contextmanager
def silence() -> Iterator[None]:
    """Tell of no task within the block, because another one does: here, or in another process."""
    token = _told.set(True)
    try:
        yield
    finally:
        _told.reset(token)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")  # of which a plain process need not know
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _silent(done: float, words: str = "") -> None:
    """Say nothing."""


@contextmanager
def _bar(title: str, total: int, unit: str, before: int) -> Iterator[Tell]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[words]}"),
    )
    shown = Progress(
        *columns,
        console=complaints,
        transient=True,
        disable=not complaints.is_terminal,
        speed_estimate_period=3_600,  # a round may take a minute
    )
    with shown:
        task = shown.add_task(title, total=total, completed=before, words="")

        def tell(done: float, words: str = "") -> None:
            shown.update(task, completed=done, words=words)

        yield tell


@contextmanager
def _line(title: str, total: int, unit: str, before: int) -> Iterator[Tell]:
    from IPython.display import HTML, display

    started = time.monotonic()
    shown: Any = display(HTML(escape(title)), display_id=True)  # type: ignore[no-untyped-call]
    last = 0.0

    def tell(done: float, words: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 0.5 and done < total:
            return  # a front end redraws the cell each time
        last = now
        text = f"{title}: {done:.0f} of {total} {unit}, {_clock(now - started)}"
        if before < done < total:
            text += f", about {_clock((now - started) * (total - done) / (done - before))} left"
        shown.update(HTML(escape(f"{text} {words}".rstrip())))  # type: ignore[no-untyped-call]

    yield tell
    tell(total)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
