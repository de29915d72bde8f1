"""Processes beside this one, which import modules from where it does and end with it."""

import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection

import loky
import psutil

from fedlab.core.devices import prepare

_share: int | None = None
_connection: Connection | None = None


def pool(
    processes: int,
    *,
    threads: int | None = None,
    share: int = 1,
    connection: Connection | None = None,
) -> loky.ProcessPoolExecutor:
    """Make processes that carry out calls; they start with the first call.

    Unlike those of the standard library, they need no ``if __name__ == "__main__"`` in the script
    that runs.

    Args:
        processes: Number of processes.
        threads: Number of PyTorch threads of each, on which the bits of its results depend; by
            default the calls set it.
        share: Number of cores that each may use, its own processes included.
        connection: Given to the process, which finds it as ``connection_to_parent``.
    """
    # It replaces a worker whose memory grew between two calls, and says so.
    warnings.filterwarnings("ignore", message="A worker was restarted", category=UserWarning)
    facts = (os.getpid(), os.getcwd(), list(sys.path), threads, share, connection)
    return loky.ProcessPoolExecutor(processes, initializer=_start, initargs=facts)


def become_worker(share: int = 1) -> None:
    """Make this process one that others wait for, and that leaves the other cores to its siblings.

    Args:
        share: Number of cores that it may use.
    """
    global _share
    _share = share
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends them


def cores() -> int:
    """Number of cores that this process may use; its siblings use the others."""
    return int(loky.cpu_count()) if _share is None else _share


def connection_to_parent() -> Connection:
    """The connection that ``pool`` gave this process.

    Raises:
        ValueError: If it gave none.
    """
    if _connection is None:
        raise ValueError("this process has no connection to its parent")
    return _connection


def _start(
    parent: int,
    folder: str,
    path: list[str],
    threads: int | None,
    share: int,
    connection: Connection | None,
) -> None:
    """Import modules from where the parent does, and end with it, so that no worker is left over.

    Args:
        parent: Process id of the parent.
        folder: Working folder of the parent.
        path: Import path of the parent.
        threads: Number of PyTorch threads; ``None`` leaves it.
        share: Number of cores that this process may use.
        connection: Connection to the parent, if there is one.
    """
    global _connection
    _connection = connection
    become_worker(share)
    os.chdir(folder)
    sys.path[:] = path
    if threads is not None:
        prepare(threads)

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):  # it has ended already
            psutil.Process(parent).wait()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
