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
        at_once: Start the others with the first call, and not only after ``PATIENCE`` seconds of
            work, which short runs never reach.
        prepare: What each of the others calls first, such as imports and the loading of data;
            this process does not wait for it.
    """

    def __init__(
        self,
        count: int,
        *,
        at_once: bool = True,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self.count = count
        self._prepare = prepare
        self._wait = 0.0 if at_once else PATIENCE
        self._worked = 0.0
        self._pool: loky.ProcessPoolExecutor | None = None
        self._prepared: list[Future[object]] = []

    def start(self) -> None:
        """Start the other processes, without waiting for them."""
        if self._pool is None and self.count > 1:
            self._pool = pool(self.count - 1)
            self._prepared = [self._pool.submit(self._prepare) for _ in range(self.count - 1)]
            weakref.finalize(self, _end, self._pool)

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
            call: The function; one that does not depend on the process that runs it.
            items: Its arguments.
            died: Makes the result of an item whose process was killed twice.

        Raises:
            Exception: What a call raised: that of the first item in order for which one did.
            RunFailed: If the process of an item was killed twice, and ``died`` is not given.
        """
        work = _Work(call, items)
        try:
            self._share(work)
            for place in work.lost:
                self._once_more(work, place, died)
        except BaseException:
            self.close()
            raise
        return [_result(outcome) for outcome in work.outcomes]

    def _share(self, work: "_Work[Any, Any]") -> None:
        beside: list[threading.Thread] = []
        while True:
            if not beside and self._are_ready(work):
                beside = [
                    threading.Thread(target=work.carry_out, args=[self._elsewhere], daemon=True)
                    for _ in range(self.count - 1)
                ]
                for thread in beside:
                    thread.start()
            started = time.monotonic()
            if not work.carry_out_one(_here):
                break
            self._worked += time.monotonic() - started
        for thread in beside:
            thread.join()

    def _are_ready(self, work: "_Work[Any, Any]") -> bool:
        """Whether there is work for others, and they have started; they are started if need be."""
        if self.count == 1 or work.left < 2:
            return False
        if self._worked >= self._wait:
            self.start()
        return any(each.done() for each in self._prepared)

    def _elsewhere(self, call: Callable[[A], B], item: A) -> B:
        assert self._pool is not None  # only called once the pool has started
        return self._pool.submit(call, item).result()

    def _once_more(
        self, work: "_Work[Any, Any]", place: int, died: Callable[[Any], Any] | None
    ) -> None:
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
        self.lost: list[int] = []
        self._places = deque(range(len(items)))

    @property
    def left(self) -> int:
        """Number of items that nobody has taken."""
        return len(self._places)

    def carry_out(self, run: Callable[..., Any]) -> None:
        """Carry out items until none is left."""
        while self.carry_out_one(run):
            pass

    def carry_out_one(self, run: Callable[..., Any]) -> bool:
        """Carry out the next item; return false if none is left, or its process was killed."""
        try:
            place = self._places.popleft()
        except IndexError:
            return False
        try:
            self.outcomes[place] = _outcome(run, self.call, self.items[place])
        except BrokenProcessPool:
            self.lost.append(place)
            return False
        return True


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
