"""Signals that end a process, turned into exceptions."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from fedlab.core.errors import RunFailed

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that a scheduler, a shutdown or a closed terminal sends."""


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Turn signals that end a process into exceptions, so that its child processes end as well.

    Within the block it is the exception of Ctrl-C, which passes through code that catches errors of
    others. Ignored signals, as under nohup, stay ignored; outside of the main thread nothing
    changes.

    Raises:
        RunFailed: If such a signal has arrived.
    """
    arrived: list[str] = []
    before = {number: signal.getsignal(number) for number in ENDINGS}
    ours = [number for number in ENDINGS if before[number] not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():
        ours = []

    def raise_failure(number: int, _: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)  # a second signal must not stop the clean-up
        arrived.append(signal.Signals(number).name)
        raise KeyboardInterrupt

    for number in ours:
        signal.signal(number, raise_failure)
    try:
        yield
    except BaseException as error:
        if arrived:
            raise RunFailed(f"the run was ended by {arrived[0]}") from error
        raise
    finally:
        for number in ours:
            signal.signal(number, before[number])
