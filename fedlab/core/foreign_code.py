"""Calls of somebody else's code that end after a time, whatever the code raises or waits for.

In the main thread of a POSIX process a signal interrupts the call, and with it sleeping, locks,
sockets and most waits of native code. Elsewhere only Python code can be interrupted, and only
between two instructions. Nothing interrupts native code that computes without end or ignores
signals, nor code that catches every ``BaseException`` for ever: run such clients in processes of
their own, by the ray engine.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from fedlab.core.time_limits import Overtime, time_limit

T = TypeVar("T")

_raised: list[BaseException] | None = None
"""What handlers of signals have raised during the call that runs in the main thread."""

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")
"""Signals whose handlers may raise an exception that is not the foreign code's own."""


class ForeignCodeFailed(Exception):
    """Foreign code raised an exception, asked the process to exit, or took too long."""


def call_foreign(call: Callable[[], T], *, seconds: float | None) -> T:
    """Call foreign code, and turn whatever it raises into one exception.

    Args:
        call: The code.
        seconds: Time that it may take, above 0; ``None`` for no limit.

    Returns:
        What the code returns.

    Raises:
        ForeignCodeFailed: If it raises anything, ``SystemExit`` and ``KeyboardInterrupt`` included,
            or takes too long. An exception that the handler of a signal raises, such as Ctrl-C, is
            passed on.
    """
    with _forwarded_signals() as outside, time_limit(seconds) as is_over:
        try:
            found = call()
        except BaseException as error:
            if outside:
                raise outside[0] from error
            if isinstance(error, Overtime) or is_over():
                raise ForeignCodeFailed(f"it took longer than {seconds:g} seconds") from error
            if isinstance(error, ForeignCodeFailed):
                raise
            raise ForeignCodeFailed(described(error)) from error
        if outside:  # even if the foreign code has caught it
            raise outside[0]
        return found


def described(error: BaseException) -> str:
    """Kind and text of an exception of foreign code, whose text may fail as well."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


@contextmanager
def _forwarded_signals() -> Iterator[list[BaseException]]:
    """List what handlers of signals raise during the block; empty outside of the main thread."""
    global _raised
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    if _raised is not None:  # a call within a call, which has the same handlers
        yield _raised
        return
    raised: list[BaseException] = []
    numbers = [getattr(signal, name) for name in FORWARDED if hasattr(signal, name)]
    before = {each: handler for each in numbers if callable(handler := signal.getsignal(each))}

    def forward(number: int, frame: FrameType | None) -> None:
        try:
            before[number](number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    for number in before:
        signal.signal(number, forward)
    try:
        _raised = raised
        yield raised
    finally:
        _raised = None
        for number, handler in before.items():
            signal.signal(number, handler)
