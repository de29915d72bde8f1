"""Writing files so that a kill at any moment leaves the old one or the new one, never half."""

import os
from pathlib import Path

from fedlab.core.errors import BadInput


def check_folder(path: Path) -> None:
    """Find out early, and without making anything, whether a folder can be written to.

    Args:
        path: The folder; it need not exist.

    Raises:
        BadInput: If it, or the first folder above it that exists, is none or is not writable.
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
    """Replace a file's content at once.

    Args:
        path: The file; its folder must exist.
        content: All of its new bytes.
    """
    beside = path.with_name(path.name + ".partial")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
