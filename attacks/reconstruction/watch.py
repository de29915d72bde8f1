"""Callbacks that follow the progress of an attack."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

INTERVAL = 1.0
"""Seconds between two calls of a watch; it is also called at the end of each restart."""


@dataclass(frozen=True)
class Progress:
    """State of one restart.

    Attributes:
        restart: Index of the restart, counted from 0.
        iteration: Number of steps done.
        cost: Matching cost at the last step, which is that of the images before that step.
        images: float ``[n, channels, height, width]``, pixels in [0, 1].
    """

    restart: int
    iteration: int
    cost: float
    images: Tensor = field(repr=False)


Watch = Callable[[Progress], None]
"""Callback that receives the progress every ``INTERVAL`` seconds; a ``SelectiveWatch`` chooses the
iterations instead."""


@runtime_checkable
class SelectiveWatch(Protocol):
    """Callback that is called after iterations of its own choice and at the end."""

    def wants(self, iteration: int) -> bool:
        """Return True to be called after this many steps of a restart, counted from 1."""
        ...

    def __call__(self, progress: Progress) -> None:
        """Receive the progress of a restart."""
        ...


def continued(watch: Watch, done: int) -> Watch:
    """A callback for a search that continues another one, whose iterations count as well.

    Args:
        watch: Callback that receives the progress of both.
        done: Number of iterations of the other search.
    """
    if isinstance(watch, SelectiveWatch):
        return _Continued(watch, done)
    return lambda progress: watch(replace(progress, iteration=done + progress.iteration))


class _Continued:
    """The same for a callback that chooses iterations."""

    def __init__(self, watch: SelectiveWatch, done: int) -> None:
        self._watch, self._done = watch, done

    def wants(self, iteration: int) -> bool:
        """Return True if the callback wants this iteration, counted over both searches."""
        return self._watch.wants(self._done + iteration)

    def __call__(self, progress: Progress) -> None:
        """Pass the progress on."""
        self._watch(replace(progress, iteration=self._done + progress.iteration))


class Watched(Protocol):
    """A search whose progress can be read."""

    def progress(self) -> Progress:
        """Return the current state."""
        ...


class WatchCalls:
    """Decides when a watch is called for searches that run at the same time.

    Args:
        watch: Callback.
        lock: Lock under which the callback is called, since restarts may run in threads.
    """

    def __init__(self, watch: Watch, lock: "threading.Lock | None" = None) -> None:
        self._watch = watch
        self._wants = watch.wants if isinstance(watch, SelectiveWatch) else None
        self._lock = lock or threading.Lock()
        self._called = time.perf_counter()
        self._reported: dict[int, int] = {}

    def restarted(self) -> "WatchCalls":
        """The same callback for other searches, with a clock that starts now."""
        return WatchCalls(self._watch, self._lock)

    def after_step(self, done: int, *searches: Watched) -> None:
        """Call the watch if it is due after this many steps of each search."""
        if self._wants is not None:
            due = self._wants(done)
        else:
            due = time.perf_counter() - self._called > INTERVAL
        if due:
            self.report(*searches)
            self._called = time.perf_counter()

    def report(self, *searches: Watched) -> None:
        """Call the watch for every search that moved since its last report."""
        for search in searches:
            progress = search.progress()
            if self._reported.get(progress.restart) == progress.iteration:
                continue
            self._reported[progress.restart] = progress.iteration
            with self._lock:
                self._watch(progress)
