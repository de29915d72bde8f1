"""Reading .safetensors files, which cannot hold code."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fedlab.core.errors import BadInput


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by name, and its metadata.

    Raises:
        BadInput: If it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # Cloned, since sums round differently over memory that is aligned differently.
            tensors = {n: file.get_tensor(n).clone() for n in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
