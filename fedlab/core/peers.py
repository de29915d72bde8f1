"""Another process that carries out calls, over a connection of its own.

The pool of loky starts and ends it, and notices its death. The connection is some times faster than
the pool's queues, and sends arrays as they lie in memory.
"""

import multiprocessing
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import loky
import psutil

from fedlab.core.foreign_code import described
from fedlab.core.processes import connection_to_parent, pool

LOOKS = 0.5
"""Seconds between two looks at whether a process that does not answer is still there."""


class PeerDied(Exception):
    """The other process has ended, or was killed."""


_PEERS: "weakref.WeakSet[Peer]" = weakref.WeakSet()
"""All that may still live."""


class Peer:
    """Another process, which lives until ``close`` or the last reference.

    Args:
        prepare: What it calls first; this process does not wait for it.
        threads: Number of its PyTorch threads.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, prepare: Callable[[], object], *, threads: int) -> None:
        self._here, self._there = multiprocessing.Pipe()
        self._pool = pool(1, threads=threads, connection=self._there)
        self._end = weakref.finalize(self, _ended, self._pool, self._here, self._there)
        self._serving = self._pool.submit(_serve, prepare)
        _end_before_loky_waits()
        _PEERS.add(self)
        self._begun = False
        self._call: object = None

    @property
    def has_begun(self) -> bool:
        """Whether it takes calls, or never will, since it died."""
        return self._begun or self._serving.done() or self._here.poll()

    @property
    def process(self) -> int:
        """Its process id."""
        return int(next(iter(self._pool._processes)))

    @property
    def cpu_seconds(self) -> float:
        """CPU time in seconds that it has taken so far; 0 if it has ended."""
        try:
            times = psutil.Process(self.process).cpu_times()
        except (psutil.NoSuchProcess, StopIteration):
            return 0.0
        return float(times.user + times.system)

    def wait(self) -> None:
        """Wait until it takes calls.

        Raises:
            PeerDied: If it never will.
        """
        if not self._begun:
            self._receive()
            self._there.close()  # the other process has its own, whose end this one then notices
            self._begun = True

    def carry_out(
        self, call: Callable[[Any], object], item: object, seconds: float | None = None
    ) -> tuple[bool, Any]:
        """Let it carry out a call, which is sent only if the last one was another.

        Args:
            call: A function.
            item: Its argument.
            seconds: Time after which its process counts as dead; ``None`` for no limit.

        Returns:
            True and the result, or False and a text on what the call has raised, or on what cannot
            be pickled.

        Raises:
            PeerDied: If it ends before it answers, or takes longer.
        """
        self.wait()
        new = call is not self._call
        try:
            message = _pickled((new, call if new else None, item))
        except Exception as error:  # anybody's objects may raise anything
            return False, described(error)
        self._call = call
        try:
            _send(self._here, message)
        except OSError as error:
            raise PeerDied from error
        answer = self._receive(seconds)
        try:
            succeeded, result = _loaded(answer)
        except Exception as error:
            succeeded, result = False, described(error)
        if not succeeded:
            self._call = None
        return succeeded, result

    def close(self) -> None:
        """End it."""
        self._end()

    def _receive(self, seconds: float | None = None) -> "Received":
        started = time.monotonic()
        try:
            while not self._here.poll(LOOKS):
                late = seconds is not None and time.monotonic() > started + seconds
                if late or self._serving.done():
                    raise PeerDied
            return _received(self._here)
        except (EOFError, OSError) as error:
            raise PeerDied from error


Pickled = tuple[bytes, list[pickle.PickleBuffer]]
"""A pickle, and the memory of the arrays in it."""

Received = tuple[bytes, list[bytearray]]
"""The same at the other end."""


def _serve(prepare: Callable[[], object]) -> None:
    """Carry out calls until the other end is closed."""
    connection, call = connection_to_parent(), _nothing
    with suppress(Exception):  # then the calls fail as well, and the other end repeats them
        prepare()
    _send(connection, _pickled(None))
    while True:
        try:
            request = _received(connection)
        except (EOFError, OSError):
            return
        try:
            new, given, item = _loaded(request)
            call = given if new else call
            answer = _pickled((True, call(item)))
        except BaseException as error:  # which perhaps cannot be pickled
            answer = _pickled((False, described(error)))
        _send(connection, answer)


def _nothing(_: Any) -> object:
    """The call before the first one."""
    return None


def _pickled(value: object) -> Pickled:
    arrays: list[pickle.PickleBuffer] = []
    return cloudpickle.dumps(value, protocol=5, buffer_callback=arrays.append), arrays


def _send(connection: Connection, message: Pickled) -> None:
    content, arrays = message
    raw = [array.raw() for array in arrays]
    connection.send([each.nbytes for each in raw])
    connection.send_bytes(content)
    for each in raw:
        if each.nbytes:
            connection.send_bytes(each)


def _received(connection: Connection) -> Received:
    sizes, content = connection.recv(), connection.recv_bytes()
    arrays = [bytearray(size) for size in sizes]
    for each in arrays:
        if each:
            connection.recv_bytes_into(each)
    return content, arrays


def _loaded(received: Received) -> Any:
    content, arrays = received
    return pickle.loads(content, buffers=arrays)


@cache
def _end_before_loky_waits() -> None:
    """End all peers when the interpreter ends, before loky waits for what they carry out.

    A script may keep a federation in a variable to its last line. What is registered later is
    called earlier, and only functions of ``threading`` are called before loky's own.
    """
    threading._register_atexit(_end_all)  # type: ignore[attr-defined]


def _end_all() -> None:
    for each in list(_PEERS):
        each.close()


def _ended(processes: loky.ProcessPoolExecutor, *connections: Connection) -> None:
    processes.shutdown(wait=True, kill_workers=True)
    for each in connections:  # last, since a thread may still read from one
        each.close()
