"""Progress of a long task: a bar in a terminal, a line in a notebook, some lines in a log."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any, Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fedlab.core.consoles import complaints

LOG_INTERVAL = 30.0
"""Least time between two lines in a log file or a pipe, in seconds."""

Left = Callable[[], float | None]
"""Function that estimates the time left in seconds; ``None`` while it is not known."""

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
def progress(
    title: str, total: int, *, unit: str, done: int = 0, left: Left | None = None
) -> Iterator[Tell]:
    """Show the progress of a task and the time left while the block runs.

    In a notebook it is one line that is updated, in a terminal a bar on standard error that
    disappears at the end, and in a pipe or log file a new line on standard error at most every
    ``LOG_INTERVAL``, so none for a short task. A task within another one shows nothing.

    Args:
        title: Name of the task.
        total: Number of units to do.
        unit: Name of the units in the plural, such as ``rounds``.
        done: Number of units done before the block starts.
        left: Estimate of the time left, for units that do not take equally long; by default it
            follows from the units done so far.

    Yields:
        The function that reports progress.
    """
    if _active.get():
        yield _silent
        return
    with silence():
        shown = _line if in_notebook() else _bar if complaints.is_terminal else _log
        with shown(title, total, unit, done, left) as tell:
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


class _LeftColumn(ProgressColumn):
    """The time left as a function estimates it."""

    def __init__(self, left: Left) -> None:
        super().__init__()
        self._left = left

    def render(self, task: Task) -> Text:
        seconds = self._left()
        return Text("-:--" if seconds is None else _clock(seconds), style="progress.remaining")


@contextmanager
def _bar(title: str, total: int, unit: str, before: int, left: Left | None) -> Iterator[Tell]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left:"),
        _LeftColumn(left) if left else TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[words]}"),
    )
    shown = Progress(
        *columns,
        console=complaints,
        transient=True,
        speed_estimate_period=3_600,  # seconds; a round may take a minute
    )
    with shown:
        task = shown.add_task(title, total=total, completed=before, words="")

        def tell(done: float, words: str = "") -> None:
            shown.update(task, completed=done, words=words)

        yield tell


@contextmanager
def _line(title: str, total: int, unit: str, before: int, left: Left | None) -> Iterator[Tell]:
    from IPython.display import HTML, display

    shown: Any = display(HTML(escape(title)), display_id=True)  # type: ignore[no-untyped-call]

    def write(text: str) -> None:
        shown.update(HTML(escape(text)))  # type: ignore[no-untyped-call]

    # A front end redraws the cell each time.
    tell = _writer(write, title, total, unit, before, left, pause=0.5)
    yield tell
    tell(total)


@contextmanager
def _log(title: str, total: int, unit: str, before: int, left: Left | None) -> Iterator[Tell]:
    yield _writer(complaints.print, title, total, unit, before, left, pause=LOG_INTERVAL, wait=True)


def _writer(
    write: Callable[[str], None],
    title: str,
    total: int,
    unit: str,
    before: int,
    left: Left | None,
    *,
    pause: float,
    wait: bool = False,
) -> Tell:
    """Write what is done, the time since the start, and the time left.

    Args:
        write: Function that shows a text.
        title: Name of the task.
        total: Number of units to do.
        unit: Name of the units in the plural.
        before: Number of units done before the start.
        left: Estimate of the time left; ``None`` computes it from the units done.
        pause: Least time between two texts in seconds.
        wait: Whether the first text and the last one wait for that time too.
    """
    started = time.monotonic()
    last = started if wait else -math.inf

    def tell(done: float, words: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < pause and (wait or done < total):
            return
        last = now
        text = f"{title}: {done:.0f} of {total} {unit}, {_clock(now - started)}"
        rest = None
        if done < total and left:
            rest = left()
        elif before < done < total:
            rest = (now - started) * (total - done) / (done - before)
        text += "" if rest is None else f", about {_clock(rest)} left"
        write(f"{text} {words}".rstrip())

    return tell


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
