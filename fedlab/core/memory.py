"""A limit on what a file or a setting may make this process allocate."""

import psutil

from fedlab.core.errors import BadInput


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
