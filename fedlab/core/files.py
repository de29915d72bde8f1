"""Files and folders: checks before a long task, and writes that leave no half-written file."""

import os
from pathlib import Path

from fedlab.core.errors import BadInput


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


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file as a whole: a kill at any moment leaves the old content or the new one.

    Args:
        path: File, whose folder must exist.
        content: Complete new content.
    """
    beside = path.with_name(path.name + ".partial")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
