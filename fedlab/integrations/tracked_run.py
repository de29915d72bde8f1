"""What trackers of other libraries share: a check that they are there, pictures, and run ids."""

from __future__ import annotations

import importlib.util
import uuid
from typing import TYPE_CHECKING, Any

from fedlab.core.errors import BadInput
from fedlab.core.trackers import TrackedRun

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def require(module: str, name: str) -> None:
    """Refuse a tracker whose library is missing, before the first round.

    Args:
        module: Module of the library, which is also the name of the extra that installs it.
        name: Name of the library.

    Raises:
        BadInput: If it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise BadInput(
            f"{name} is not installed, and its tracker cannot work without it: pip install "
            f'"fedlab-privacy[{module}]"'
        )


def as_array(image: Tensor) -> np.ndarray[Any, Any]:
    """A picture as other libraries take it.

    Args:
        image: Float ``[channels, height, width]`` in [0, 1].

    Returns:
        uint8 ``[height, width, 3]``.
    """
    pixels = image.expand(3, -1, -1).permute(1, 2, 0)
    array: np.ndarray[Any, Any] = pixels.mul(255).round().byte().numpy()
    return array


def same_id(run: TrackedRun, tracker: str) -> str:
    """An id of the run at a tracker, which a resumed run finds again in its folder."""
    file = run.folder / f"{tracker}.id"
    if not (run.done and file.is_file()):
        file.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    return file.read_text(encoding="utf-8")
