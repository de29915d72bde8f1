"""Calls that this process and others share, with the results of one process.

The others start while this one already works. What they run must be importable, and what they get
and return is pickled.
"""

import logging
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

log = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")

PATIENCE = 3.0
"""Seconds of shared work after which other processes are started, which takes about as long."""


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
        self._end: Callable[[], object] | None = None
        self._prepared: list[Future[object]] = []

    def start(self) -> None:
        """Start the other processes, without waiting for them.

        Raises:
            OSError: If they cannot be started, or their data cannot be written.
        """
        if self._pool is None and self.count > 1:
            self.before_start()
            self._begin(self.count - 1)

    def ready(self) -> None:
        """Start the other processes, and wait until they have begun to work."""
        self.start()
        for each in self._prepared:
            each.result()

    def close(self) -> None:
        """End the other processes; a later call starts others."""
        if self._end is not None:
            self._end()
        self._pool, self._prepared, self._end = None, [], None

    def stay_alone(self) -> None:
        """End the other processes, and start none from now on."""
        self.close()
        self.count = 1

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
            self._repeat(work, died)
            for place in work.failed:
                work.carry_out(place)
        except BaseException:
            self.close()
            raise
        return work.results()

    def _begin(self, processes: int) -> None:
        self._pool = pool(processes, threads=self._threads)
        self._end = weakref.finalize(self, _ended, self._pool)
        self._prepared = [self._pool.submit(self.prepare) for _ in range(processes)]

    def _share(self, work: "_Work") -> None:
        beside: list[threading.Thread] = []
        while True:
            if not beside and self.count > 1 and work.left > 1:
                self._start_if_due()
                if any(each.done() for each in self._prepared):
                    beside = [
                        threading.Thread(target=_feed, args=[self._pool, work], daemon=True)
                        for _ in range(self.count - 1)
                    ]
                    for thread in beside:
                        thread.start()
            if (place := work.take()) is None:
                break
            started = time.monotonic()
            work.carry_out(place)
            self._worked += time.monotonic() - started
        for thread in beside:
            thread.join()

    def _start_if_due(self) -> None:
        if self._worked < self._wait:
            return
        try:
            self.start()
        except (OSError, BrokenProcessPool) as error:
            log.warning("the run goes on in one process, since others cannot start: %s", error)
            self.stay_alone()

    def _repeat(self, work: "_Work", died: Callable[[Any], Any] | None) -> None:
        """Repeat calls whose processes were killed, one by one: any of several may be the reason.

        Raises:
            RunFailed: If a process is killed again, and ``died`` is not given.
        """
        if not work.lost:
            return
        self.close()
        for place in work.lost:
            try:
                if self._pool is None:
                    self._begin(1)
                _send(self._pool, work, place)
            except BrokenProcessPool:
                self.close()
                if died is None:
                    raise RunFailed(
                        "a worker process was killed twice, perhaps for want of memory: set "
                        "engine.workers = 1, or lower the memory that a client needs"
                    ) from None
                work.outcomes[place] = (True, died(work.items[place]))
        self.close()  # of one process; the next call starts all


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

    def carry_out(self, place: int) -> None:
        """Carry out an item in this process. If it fails, nobody takes any later one."""
        try:
            self.outcomes[place] = (True, self.call(self.items[place]))
        except Exception as error:
            self.outcomes[place] = (False, error)
            self._places.clear()

    def results(self) -> list[Any]:
        """The results in order.

        Raises:
            Exception: What the first item that failed has raised.
        """
        for outcome in self.outcomes:
            if outcome is not None and not outcome[0]:
                raise outcome[1]
        return [result for _, result in self.outcomes]


def _feed(processes: loky.ProcessPoolExecutor, work: _Work) -> None:
    """Let another process carry out items until none is left."""
    while (place := work.take()) is not None:
        try:
            _send(processes, work, place)
        except BrokenProcessPool:
            work.lost.append(place)
            return


def _send(processes: loky.ProcessPoolExecutor, work: _Work, place: int) -> None:
    """Let another process carry out an item, or note that it cannot."""
    try:
        succeeded, result = processes.submit(_guarded, work.call, work.items[place]).result()
    except BrokenProcessPool:
        raise
    except Exception as error:  # such as an item that cannot be pickled
        succeeded, result = False, repr(error)
    if succeeded:
        work.outcomes[place] = (True, result)
    else:
        log.debug("a call failed in another process and is repeated here: %s", result)
        work.failed.append(place)


def _guarded(call: Callable[[A], B], item: A) -> tuple[bool, Any]:
    """Carry out a call in another process, from which no exception could be pickled for sure."""
    try:
        return True, call(item)
    except BaseException as error:
        return False, repr(error)


def _nothing() -> None:
    """The default of what is called at a start."""


def _ended(processes: loky.ProcessPoolExecutor) -> None:
    processes.shutdown(wait=True, kill_workers=True)
