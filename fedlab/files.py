"""Writing files so that a kill at any moment leaves the old one or the new one, never half."""

import os
from pathlib import Path


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
