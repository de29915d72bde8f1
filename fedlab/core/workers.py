"""Calls that this process and others share, with the results of one process.

The others start while this one already works. What they run must be importable, and what they get
and return is pickled.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fedlab.core.errors import RunFailed
from fedlab.core.peers import Peer, PeerDied

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
        self._ended_cpu_seconds = 0.0
        self._peers: list[Peer] = []

    def start(self) -> None:
        """Start the other processes, without waiting for them.

        Raises:
            OSError: If they cannot be started, or their data cannot be written.
        """
        if not self._peers and self.count > 1:
            self.before_start()
        while len(self._peers) < self.count - 1:
            self._peers.append(self._another())

    def ready(self) -> None:
        """Start the other processes, and wait until they have begun to work.

        Raises:
            RunFailed: If one never will.
        """
        self.start()
        try:
            for each in self._peers:
                each.wait()
        except PeerDied as error:
            raise RunFailed(
                "a process that engine.workers starts was killed, perhaps for want of memory: "
                "choose fewer"
            ) from error

    def close(self) -> None:
        """End the other processes; a later call starts others."""
        self._ended_cpu_seconds += sum(each.cpu_seconds for each in self._peers)
        for each in self._peers:
            each.close()
        self._peers = []

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
        seconds: float | None = None,
    ) -> list[B]:
        """Call a function with each item, and return the results in order.

        Args:
            call: The function; one that does not depend on the process that runs it. It is sent
                once to each process, and what another process cannot carry out, this one does.
            items: Its arguments.
            died: Makes the result of an item whose process was killed twice.
            seconds: Time after which another process is killed, whatever it computes; ``None`` for
                no limit.

        Raises:
            Exception: What a call raised: that of the first item in order for which one did.
            RunFailed: If the process of an item was killed twice, and ``died`` is not given.
        """
        work = Work(call, items, seconds)
        try:
            self._share(work)
            self._repeat(work, died)
            for place in work.failed:
                work.carry_out(place)
        except BaseException:
            self.close()
            raise
        return work.results()

    @property
    def cpu_seconds(self) -> float:
        """CPU time in seconds of this process and the others, except those that were killed."""
        others = sum(each.cpu_seconds for each in self._peers)
        return time.process_time() + self._ended_cpu_seconds + others

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the others that have started."""
        return tuple(each.process for each in self._peers)

    def _another(self) -> Peer:
        return Peer(self.prepare, threads=self._threads)

    def _share(self, work: "Work") -> None:
        beside: dict[Peer, threading.Thread] = {}
        while True:
            if self.count > 1 and work.left > 1:
                self._start_if_due()
                for peer in self._peers:
                    if peer not in beside and peer.has_begun:
                        thread = threading.Thread(target=_feed, args=[peer, work], daemon=True)
                        beside[peer] = thread
                        thread.start()
            if (place := work.take()) is None:
                break
            started = time.monotonic()
            work.carry_out(place)
            self._worked += time.monotonic() - started
        for thread in beside.values():
            thread.join()

    def _start_if_due(self) -> None:
        if self._worked < self._wait:
            return
        try:
            self.start()
        except OSError as error:
            log.warning("the run goes on in one process, since others cannot start: %s", error)
            self.stay_alone()

    def _repeat(self, work: "Work", died: Callable[[Any], Any] | None) -> None:
        """Repeat calls whose processes were killed, each in a new one.

        Raises:
            RunFailed: If a process is killed again, and ``died`` is not given.
        """
        for peer, place in work.lost:
            peer.close()
            self._peers.remove(peer)
            another = self._another()
            try:
                _send(another, work, place)
                self._peers.append(another)
            except PeerDied:
                another.close()
                work.give_up(place, died)


class Work:
    """Items that several threads take from one end."""

    def __init__(
        self, call: Callable[[A], B], items: Sequence[A], seconds: float | None = None
    ) -> None:
        self.call, self.items, self.seconds = call, items, seconds
        self.outcomes: list[Any] = [None] * len(items)
        self.failed: list[int] = []
        """Places of items that failed in another process."""
        self.lost: list[tuple[Peer, int]] = []
        """Processes that were killed, and the places of their items."""
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

    def note(self, place: int, succeeded: bool, result: Any) -> None:
        """Note what another process has answered: a result, or why this one has to repeat it."""
        if succeeded:
            self.outcomes[place] = (True, result)
        else:
            log.debug("a call failed in another process and is repeated here: %s", result)
            self.failed.append(place)

    def give_up(self, place: int, died: Callable[[Any], Any] | None) -> None:
        """Note the result of an item whose process was killed twice.

        Raises:
            RunFailed: If nobody can make it.
        """
        if died is None:
            raise RunFailed(
                "a worker process was killed twice, perhaps for want of memory: set "
                "engine.workers = 1, or lower the memory that a client needs"
            )
        self.outcomes[place] = (True, died(self.items[place]))

    def results(self) -> list[Any]:
        """The results in order.

        Raises:
            Exception: What the first item that failed has raised.
        """
        for outcome in self.outcomes:
            if outcome is not None and not outcome[0]:
                raise outcome[1]
        return [result for _, result in self.outcomes]


def _feed(peer: Peer, work: Work) -> None:
    """Let another process carry out items until none is left."""
    while (place := work.take()) is not None:
        try:
            _send(peer, work, place)
        except PeerDied:
            work.lost.append((peer, place))
            return


def _send(peer: Peer, work: Work, place: int) -> None:
    """Let another process carry out an item, or note that it cannot.

    Raises:
        PeerDied: If the process was killed.
    """
    work.note(place, *peer.carry_out(work.call, work.items[place], work.seconds))


def _nothing() -> None:
    """The default of what is called at a start."""
