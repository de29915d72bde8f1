"""Calls that this process and others share, with the results of one process.

The others start while this one already works. What they run must be importable, and what they get
and return is pickled.
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import loky

from fedlab.core.errors import RunFailed
from fedlab.core.processes import pool

A = TypeVar("A")
B = TypeVar("B")

PATIENCE = 3.0
"""Seconds of shared work after which other processes are worth their start, of about as many."""


class Workers:
    """This process and others beside it, which live until ``close`` or the last reference.

    Args:
        count: Number of processes, this one included.
        threads: Number of PyTorch threads of each.
        at_once: Start the others with the first call, and not only after ``PATIENCE`` seconds of
            work, which short runs never reach.

    Attributes:
        count: Number of processes.
        before_start: What this process calls before it starts the others, such as to write data.
        prepare: What each of the others calls first, such as to read the data; this process does
            not wait for it.
    """

    def __init__(self, count: int, *, threads: int = 1, at_once: bool = True) -> None:
        self.count = count
        self._threads = threads
        self.before_start: Callable[[], object] = _nothing
        self.prepare: Callable[[], object] = _nothing
        self._wait = 0.0 if at_once else PATIENCE
        self._worked = 0.0
        self._pool: loky.ProcessPoolExecutor | None = None
        self._prepared: list[Future[object]] = []

    def start(self) -> None:
        """Start the other processes, without waiting for them."""
        if self._pool is None and self.count > 1:
            self.before_start()
            self._pool = pool(self.count - 1, threads=self._threads)
            self._prepared = [self._pool.submit(self.prepare) for _ in range(self.count - 1)]
            weakref.finalize(self, _end, self._pool)

    def ready(self) -> None:
        """Start the other processes, and wait until all have started."""
        self.start()
        for each in self._prepared:
            each.result()

    def close(self) -> None:
        """End the other processes; a later call starts others."""
        if self._pool is not None:
            _end(self._pool)
        self._pool, self._prepared = None, []

    def map(
        self,
        call: Callable[[A], B],
        items: Sequence[A],
        *,
        died: Callable[[A], B] | None = None,
    ) -> list[B]:
        """Call a function with each item, and return the results in order.

        Args:
            call: The function; one that does not depend on the process that runs it. What another
                process cannot carry out, this one does.
            items: Its arguments.
            died: Makes the result of an item whose process was killed twice.

        Raises:
            Exception: What a call raised: that of the first item in order for which one did.
            RunFailed: If the process of an item was killed twice, and ``died`` is not given.
        """
        work = _Work(call, items)
        try:
            self._share(work)
            for place in work.failed:  # perhaps since another process lacks something
                work.outcomes[place] = _outcome(_here, call, items[place])
            for place in work.lost:
                self._once_more(work, place, died)
        except BaseException:
            self.close()
            raise
        return [_result(outcome) for outcome in work.outcomes]

    def _share(self, work: "_Work") -> None:
        beside: list[threading.Thread] = []
        while True:
            if not beside and self._are_ready(work):
                beside = [
                    threading.Thread(target=self._have_done, args=[work], daemon=True)
                    for _ in range(self.count - 1)
                ]
                for thread in beside:
                    thread.start()
            if (place := work.take()) is None:
                break
            started = time.monotonic()
            work.outcomes[place] = _outcome(_here, work.call, work.items[place])
            self._worked += time.monotonic() - started
        for thread in beside:
            thread.join()

    def _have_done(self, work: "_Work") -> None:
        """Let another process carry out items until none is left."""
        while (place := work.take()) is not None:
            try:
                work.outcomes[place] = _outcome(self._elsewhere, work.call, work.items[place])
            except BrokenProcessPool:
                work.lost.append(place)
                return
            if not work.outcomes[place][0]:
                work.failed.append(place)

    def _are_ready(self, work: "_Work") -> bool:
        """Whether there is work for others, and they have started; they are started if need be."""
        if self.count == 1 or work.left < 2:
            return False
        if self._worked >= self._wait:
            self.start()
        return any(each.done() for each in self._prepared)

    def _elsewhere(self, call: Callable[[Any], Any], item: Any) -> Any:
        assert self._pool is not None  # only called once the pool has started
        return self._pool.submit(call, item).result()

    def _once_more(self, work: "_Work", place: int, died: Callable[[Any], Any] | None) -> None:
        """Repeat a call whose process was killed, alone, since any of several may be the reason."""
        self.close()
        self.start()
        try:
            work.outcomes[place] = _outcome(self._elsewhere, work.call, work.items[place])
        except BrokenProcessPool:
            self.close()
            if died is None:
                raise RunFailed(
                    "a worker process was killed twice, perhaps for want of memory: set "
                    "engine.workers = 1, or lower the memory that a client needs"
                ) from None
            work.outcomes[place] = _outcome(_here, died, work.items[place])


class _Work:
    """Items that several threads take from one end."""

    def __init__(self, call: Callable[[A], B], items: Sequence[A]) -> None:
        self.call, self.items = call, items
        self.outcomes: list[Any] = [None] * len(items)
        self.failed: list[int] = []
        """Places of items that failed in another process."""
        self.lost: list[int] = []
        """Places of items whose process was killed."""
        self._places = deque(range(len(items)))

    @property
    def left(self) -> int:
        """Number of items that nobody has taken."""
        return len(self._places)

    def take(self) -> int | None:
        """Take the place of the next item; ``None`` if none is left."""
        try:
            return self._places.popleft()
        except IndexError:
            return None


def _nothing() -> None:
    """The default of what is called at a start."""


def _here(call: Callable[[A], B], item: A) -> B:
    return call(item)


def _outcome(run: Callable[..., Any], call: Callable[[A], B], item: A) -> tuple[bool, Any]:
    """Whether a call succeeded, and its result or exception."""
    try:
        return True, run(call, item)
    except BrokenProcessPool:
        raise
    except Exception as error:
        return False, error


def _result(outcome: tuple[bool, Any]) -> Any:
    succeeded, found = outcome
    if not succeeded:
        raise found
    return found


def _end(processes: loky.ProcessPoolExecutor) -> None:
    processes.shutdown(wait=True, kill_workers=True)
