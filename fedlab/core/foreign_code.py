"""Calls of somebody else's code that end after a time, whatever the code raises or waits for.

In the main thread of a POSIX process a signal interrupts the call, and with it sleeping, locks,
sockets and most waits of native code. Elsewhere only Python code can be interrupted, and only
between two instructions. Nothing interrupts native code that computes without end or ignores
signals, nor code that catches every ``BaseException`` for ever: run such clients in processes of
their own, by the ray engine.
"""

import ctypes
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

_raised: list[BaseException] | None = None
"""What handlers of signals have raised during the call that runs in the main thread."""

AGAIN = 1.0
"""Seconds after which code that has caught the interruption is interrupted once more."""

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")
"""Signals whose handlers may raise an exception that is not the foreign code's own."""


class ForeignCodeFailed(Exception):
    """Foreign code raised an exception, asked the process to exit, or took too long."""


class _Overtime(BaseException):
    """Raised in foreign code whose time is over."""


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
    with _forwarded_signals() as outside, _time_limit(seconds) as is_over:
        try:
            found = call()
        except BaseException as error:
            if outside:
                raise outside[0] from error
            if isinstance(error, _Overtime) or is_over():
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


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Raise ``_Overtime`` in the block once its time is over, and yield whether it is over."""
    if seconds is None:
        yield lambda: False
        return
    thread = threading.current_thread()
    by_signal = thread is threading.main_thread() and hasattr(signal, "SIGURG")

    def interrupt() -> None:
        if by_signal:
            signal.pthread_kill(thread.ident or 0, signal.SIGURG)
        else:
            _raise_in(thread, _Overtime)

    def handle(_number: int, _frame: FrameType | None) -> None:
        if not limit.done:
            raise _Overtime

    limit = _Limit(time.monotonic() + seconds, interrupt)
    # Nobody else uses SIGURG here, which by default is ignored.
    before = signal.signal(signal.SIGURG, handle) if by_signal else None
    _watcher.add(limit)
    try:
        yield lambda: limit.over
    finally:
        limit.done = True
        _watcher.wait_for_interruption()
        if by_signal:
            signal.signal(signal.SIGURG, before)
        else:
            _raise_in(thread, None)


@dataclass
class _Limit:
    """A call that may take until a time.

    Attributes:
        time: Time by ``time.monotonic`` at which it is interrupted next.
        interrupt: Interrupts the call.
        over: Whether its time is over.
        done: Whether it has ended.
    """

    time: float
    interrupt: Callable[[], None]
    over: bool = False
    done: bool = False


class _Watcher:
    """Interrupts calls whose time is over, from one thread, which starts with the first call."""

    def __init__(self) -> None:
        self._limits: list[_Limit] = []
        self._changed = threading.Condition()
        self._next = math.inf
        self._thread: threading.Thread | None = None

    def add(self, limit: _Limit) -> None:
        """Watch a call."""
        with self._changed:
            self._limits = [each for each in self._limits if not each.done] + [limit]
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="time limits", daemon=True)
                self._thread.start()
            if limit.time < self._next:  # otherwise the thread wakes up in time
                self._changed.notify()

    def wait_for_interruption(self) -> None:
        """Return once no call is being interrupted."""
        with self._changed:
            pass

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for limit in self._limits:
                    if limit.time <= now and not limit.done:
                        limit.over, limit.time = True, now + AGAIN
                        with suppress(OSError, ValueError):  # its thread has ended
                            limit.interrupt()
                left = [each.time for each in self._limits if not each.done]
                self._next = min(left, default=math.inf)
                self._changed.wait(min(self._next - now, threading.TIMEOUT_MAX) if left else None)


def _start_anew() -> None:
    """Give a forked process a watcher of its own, since threads are not forked."""
    global _watcher
    _watcher = _Watcher()


_watcher = _Watcher()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def _raise_in(thread: threading.Thread, error: type[BaseException] | None) -> None:
    """Raise an exception in a thread between two of its instructions; ``None`` takes it back."""
    kind = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), kind)
