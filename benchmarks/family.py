"""Memory of a process and all its descendants."""

import contextlib
import threading
from types import TracebackType

import psutil

INTERVAL = 1.0
"""Seconds between looks; each takes some milliseconds a process, and a short peak is missed."""


class FamilyMemory:
    """Watch this process and its descendants from a thread while it is open.

    Pages that several processes share count once (PSS) where the system reports it.

    Attributes:
        peak: Largest memory seen at once, in MiB.
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "FamilyMemory":
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL):
            self.peak = max(self.peak, _now())


def _now() -> float:
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total / 2**20
