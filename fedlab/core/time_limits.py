"""Blocks of code that end after a time: in the main thread by a signal, elsewhere only Python."""

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

AGAIN = 1.0
"""Seconds after which code that has caught the interruption is interrupted once more."""


class Overtime(BaseException):
    """Raised in code whose time is over."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Raise ``Overtime`` in the block once its time is over.

    Args:
        seconds: Time that the block may take, above 0; ``None`` for no limit.

    Yields:
        A function that returns whether the time is over.
    """
    if seconds is None:
        yield lambda: False
        return
    thread = threading.current_thread()
    by_signal = thread is threading.main_thread() and hasattr(signal, "SIGURG")

    def interrupt() -> None:
        if by_signal:
            signal.pthread_kill(thread.ident or 0, signal.SIGURG)
        else:
            _raise_in(thread, Overtime)

    def handle(_number: int, _frame: FrameType | None) -> None:
        if not (limit.done or _watcher.is_adding):  # which would never give its lock back
            raise Overtime

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
    """Interrupts calls whose time is over, from one thread, which starts with the first call.

    Attributes:
        is_adding: Whether a call is being added, which no signal may interrupt.
    """

    def __init__(self) -> None:
        self._limits: list[_Limit] = []
        self._changed = threading.Condition()
        self._next = math.inf
        self._thread: threading.Thread | None = None
        self.is_adding = False

    def add(self, limit: _Limit) -> None:
        """Watch a call."""
        self.is_adding = True
        try:
            with self._changed:
                self._limits = [each for each in self._limits if not each.done] + [limit]
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._watch, name="time limits", daemon=True
                    )
                    self._thread.start()
                if limit.time < self._next:  # otherwise the thread wakes up in time
                    self._changed.notify()
        finally:
            self.is_adding = False

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
