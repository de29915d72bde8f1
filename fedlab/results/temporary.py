"""Temporary folders that go with their process; those of a killed one go with the next."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "fedlab-run-"
"""Beginning of the names of these folders in the system's folder for temporary files."""

LOCK = ".lock"
"""Ending of the file beside a folder that its process locks as long as it lives."""


def temporary_folder() -> tuple[Path, Callable[[], None]]:
    """Make a temporary folder, and delete those of processes that were killed.

    Returns:
        The folder, and a function that deletes it.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK}"):
        with contextlib.suppress(Timeout, OSError), FileLock(left, blocking=False):
            _delete(left)
    # Locked before the folder exists, so that nobody takes it for that of a dead process.
    lock = FileLock(tempfile.mkstemp(prefix=PREFIX, suffix=LOCK)[1])
    lock.acquire()
    path = Path(lock.lock_file).with_suffix("")
    path.mkdir()

    def discard() -> None:
        shutil.rmtree(path, ignore_errors=True)
        lock.release()  # first, since Windows deletes no file that is open
        _delete(Path(lock.lock_file))

    return path, discard


def _delete(lock_file: Path) -> None:
    shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
    with contextlib.suppress(OSError):
        lock_file.unlink(missing_ok=True)
