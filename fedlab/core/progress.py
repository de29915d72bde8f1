"""Progress of a long task: a bar in a terminal, one line in a notebook, nothing in a pipe."""

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

_active: ContextVar[bool] = ContextVar("_active", default=False)
"""True while an outer progress bar is active."""


class Tell(Protocol):
    """Reports how much of a task is done."""

    def __call__(self, done: float, words: str = "") -> None:
        """Update the progress.

        Args:
            done: Number of units done so far.
            words: Short text about the present step.
        """
        ...


@contextmanager
def progress(title: str, total: int, *, unit: str, done: int = 0) -> Iterator[Tell]:
    """Show the progress of a task and the time left while the block runs.

    In a notebook it is one line that is updated, in a terminal a bar on standard error that
    disappears at the end, in a pipe nothing. A task within another one shows nothing.

    Args:
        title: Name of the task.
        total: Number of units to do.
        unit: Name of the units in the plural, such as ``rounds``.
        done: Number of units done before the block starts.

    Yields:
        The function that reports progress.
    """
    if _active.get():
        yield _silent
        return
    with silence():
        shown = _line if in_notebook() else _bar
        with shown(title, total, unit, done) as tell:
            yield tell


@contextmanager
def silence() -> Iterator[None]:
    """Show no progress within the block, because an outer task does, here or in another process."""
    token = _active.set(True)
    try:
        yield
    finally:
        _active.reset(token)


def in_notebook() -> bool:
    """True if a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")  # not imported in a plain process
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _silent(done: float, words: str = "") -> None:
    """Ignore the progress."""


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
        speed_estimate_period=3_600,  # seconds; a round may take a minute
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
