"""Detects another project that is installed under the same import name."""

import os
import sys
from collections.abc import Sequence

OTHER = (
    "two projects are installed as fedlab: this one (the distribution fedlab-privacy) and another "
    "one named fedlab on PyPI, and Python would mix their modules; use one virtual environment for "
    "each, or uninstall both and install fedlab-privacy again"
)
"""Message of the refusal."""


def refuse_other_distribution(path: Sequence[str] | None = None) -> None:
    """Raise an error if the distribution ``fedlab`` is installed beside ``fedlab-privacy``.

    It lists folders only and imports nothing, since it runs at every start.

    Args:
        path: Folders to search; those of ``sys.path`` by default.

    Raises:
        ImportError: If one of them has the metadata of a distribution named ``fedlab``.
    """
    for folder in sys.path if path is None else path:
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:  # a zip file, or a folder that does not exist
            continue
        for name in names:
            if name.lower().startswith(("fedlab-", "fedlab.egg-info")) and name.endswith("-info"):
                raise ImportError(f"{OTHER} (found {os.path.join(folder, name)})")
