"""Limits on what this process and those beside it may allocate."""

import math
from pathlib import Path

import psutil

from fedlab.core.errors import BadInput

PROCESS = 1.5 * 2**30
"""Bytes of free memory for each process that trains or attacks."""


def check_memory(needed: int, what: str) -> None:
    """Refuse what would not fit into the memory that is free now, before it is allocated.

    Args:
        needed: Number of bytes.
        what: What needs them, as the subject of a sentence in the plural or singular.

    Raises:
        BadInput: If fewer bytes are free.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise BadInput(
            f"not enough memory: {what} would take {needed / 2**30:,.1f} GiB, and "
            f"{free / 2**30:,.1f} GiB are free"
        )


def room_for_processes() -> int:
    """Number of processes with PyTorch for which memory is free, at least 1."""
    return max(1, int(_free_memory() / PROCESS))


def _free_memory() -> float:
    """Bytes that this process and others may still take, at most what its container allows."""
    limit = Path("/sys/fs/cgroup/memory.max")
    try:
        allowed = float(limit.read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        allowed = math.inf
    return min(float(psutil.virtual_memory().available), allowed)
