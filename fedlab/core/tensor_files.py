"""Reading .safetensors files, which cannot contain code."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fedlab.core.errors import BadInput


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a file by name, and its metadata.

    Raises:
        BadInput: If the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # Cloned, since sums over memory with another alignment round differently.
            tensors = {n: file.get_tensor(n).clone() for n in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (OSError, SafetensorError, ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
