"""A process that runs a command, and ends it with all that it started once its own parent is gone.

Run as a script: ``python -P guardian.py FOLDER COMMAND...``. Its standard input is a pipe of which
the parent has the other end. ``END`` in it, or the end of the command, asks for an orderly end. If
the pipe is closed without ``END``, the parent was killed: everything is killed, and the folder
deleted. If the folder then has a file ``AFTERWARDS``, the command in it is run at the end, however
the end came.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import psutil

END = b"end"
"""Message of the parent that the command is no longer needed."""

AFTERWARDS = "afterwards.json"
"""Name of a file in the folder with a command to run at the end: a JSON list of its words."""

AFTERWARDS_SECONDS = 60.0
"""Seconds that the command to run at the end may take."""

PARTING = 10.0
"""Seconds that the command and its child processes have to stop by themselves."""

SHORT_PARTING = 3.0
"""Seconds that the processes of a command have which has ended without them."""

LOOK = 0.5
"""Seconds between two looks at the processes that the command started."""

PARENT_DEATH_SIGNAL, SUBREAPER = 1, 36
"""Linux' ``PR_SET_PDEATHSIG``: if this process is killed, the command is asked to end, and
``PR_SET_CHILD_SUBREAPER``: orphans become children of this process, not of init."""


def guard(folder: str, command: list[str]) -> int:
    """Run a command until it ends or the parent wants no more of it.

    Args:
        folder: Folder to delete if the parent was killed; may have a file ``AFTERWARDS``.
        command: The command with its arguments.

    Returns:
        Exit status of the command.
    """
    end_if_orphaned = None
    if sys.platform == "linux":
        control = ctypes.CDLL(None).prctl
        control(SUBREAPER, 1, 0, 0, 0)
        end_if_orphaned = partial(control, PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    for name in ("SIGINT", "SIGHUP"):  # the parent decides what they mean
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    leader = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_if_orphaned)
    said, over = [b""], threading.Event()

    def listen() -> None:
        # Not by sys.stdin, whose lock this thread would hold when the interpreter ends.
        while part := os.read(0, len(END)):
            said[0] += part
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    family: set[psutil.Process] = set()
    while leader.poll() is None and not over.wait(LOOK):
        family |= _others(leader)
    killed, ended = over.is_set() and said[0] != END, leader.poll() is not None
    family |= _others(leader)
    if not killed and not ended:
        leader.terminate()  # and let it end the others
    elif not killed:
        _signal(family, psutil.Process.terminate)
    deadline = time.monotonic() + (0 if killed else SHORT_PARTING if ended else PARTING)
    with contextlib.suppress(subprocess.TimeoutExpired):
        leader.wait(max(0.0, deadline - time.monotonic()))
    _, alive = psutil.wait_procs(family, timeout=max(0.0, deadline - time.monotonic()))
    leader.kill()
    while alive:  # a dying process may have started another one
        _signal(alive, psutil.Process.kill)
        psutil.wait_procs(alive, timeout=PARTING)
        alive = list(_others(leader))
    _finish(Path(folder) / AFTERWARDS)
    if killed:
        shutil.rmtree(folder, ignore_errors=True)
    return leader.wait()


def _finish(file: Path) -> None:
    """Run the command in a file, if there is one; its failure has nobody to be told to."""
    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
        subprocess.run(
            json.loads(file.read_text(encoding="utf-8")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=AFTERWARDS_SECONDS,
        )


def _others(leader: subprocess.Popen[bytes]) -> set[psutil.Process]:
    """All processes that the command started, orphans included, without the command itself."""
    found = psutil.Process().children(recursive=True)
    return {process for process in found if process.pid != leader.pid}


def _signal(processes: Iterable[psutil.Process], how: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            how(process)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1], sys.argv[2:]))
