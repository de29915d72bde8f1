"""Files and folders: checks before a long task, and writes that leave no half-written file."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedlab.core.errors import BadInput

RESERVED = {"con", "prn", "aux", "nul"} | {
    f"{name}{i}" for name in ("com", "lpt") for i in range(10)
}
"""Names of devices, which Windows takes for no file whatever ending follows."""

FORBIDDEN = '<>:"/\\|?*'
"""Letters that no name of a folder may have on some operating system."""

LONGEST = 100
"""Largest length of the name of a folder, in bytes."""


def check_folder(path: Path) -> None:
    """Check that files can be written to a folder, without creating anything.

    Args:
        path: Folder, which need not exist.

    Raises:
        BadInput: If the folder, or the nearest existing one above it, is a file or is not writable.
    """
    whole = path.absolute()
    try:
        there = next(folder for folder in (whole, *whole.parents) if folder.exists())
    except OSError as error:
        raise BadInput(f"{path} cannot be used: {error}") from error
    if not there.is_dir():
        raise BadInput(f"{path} cannot be made: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{path} cannot be written to: no permission for {there}")


def folder_name(title: str) -> str:
    """The name of one folder for a title, which may hold any letters, on any operating system.

    Example:
        >>> folder_name("../../etc: a|b"), folder_name("con.txt"), folder_name("...")
        ('-..-etc- a-b', '_con.txt', 'unnamed')
    """
    letters = (each if each.isprintable() and each not in FORBIDDEN else "-" for each in title)
    # A file system takes 255 bytes, and the names of files beside it and numbers are longer.
    name = "".join(letters).encode()[:LONGEST].decode(errors="ignore").lstrip(". ").rstrip(". ")
    reserved = name.partition(".")[0].rstrip().lower() in RESERVED
    return f"_{name}" if reserved else name or "unnamed"


DISK_FAILED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Numbers of errors that are the fault of the disk and not of the file that was asked for."""


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give the file its name in an error of the block, since a full disk gives none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file as a whole: a kill at any moment leaves the old content or the new one.

    Args:
        path: File, whose folder must exist.
        content: Complete new content.
    """
    beside = path.with_name(path.name + ".partial")
    with named(path), beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


class GrowingDigest:
    """SHA-256 of a file to whose end something is added: what it hashed, it does not read again."""

    def __init__(self) -> None:
        self._hash, self._size = hashlib.sha256(), 0

    def of(self, file: Path) -> str:
        """Return the hash of the whole file, or of nothing if there is none."""
        size = file.stat().st_size if file.is_file() else 0
        if size < self._size:  # it was cut
            self._hash, self._size = hashlib.sha256(), 0
        if size > self._size:
            with file.open("rb") as content:
                content.seek(self._size)
                self._hash.update(more := content.read())
                self._size += len(more)
        return self._hash.hexdigest()
