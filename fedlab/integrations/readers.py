"""Reading weights and updates from files of other programs; nothing in them is ever run.

The table ``FORMATS`` lists the formats, one function each.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.core.memory import check_memory
from fedlab.core.plugins import describe
from fedlab.core.tensor_files import read_tensors
from fedlab.data.npz import read_arrays

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts, Lightning (``state_dict``) and NVFlare (``model``) keep the
weights of a checkpoint beside other things."""

UNNAMED = "arr_"
"""Beginning of the names that ``numpy.savez`` gives to the arrays of a list."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file, such as a capture of ``fedlab.observe``."""
    return read_tensors(path)[0]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint of ``torch.save``: a ``state_dict``, or one under a key of ``NESTED``.

    Only tensors and plain values are unpickled (``weights_only``).
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything in zipfile and pickle
        if not path.is_file():
            raise BadInput(f"{path} cannot be read: there is no such file") from error
        raise BadInput(
            f"{path} cannot be read without running code that it may contain, or is damaged: save "
            "the weights alone, with torch.save(model.state_dict(), path)"
        ) from error
    inner = next((found[key] for key in NESTED if isinstance(_get(found, key), Mapping)), found)
    tensors = {
        str(name): torch.as_tensor(value)
        for name, value in (inner.items() if isinstance(inner, Mapping) else ())
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise BadInput(
            f"{path} holds no weights: it needs a state_dict, alone or under {', '.join(NESTED)}"
        )
    return tensors


def read_numpy(path: Path) -> dict[str, Tensor]:
    """Read an .npz file of ``numpy.savez``: arrays by name, or a list as Flower's guide saves it.

    The arrays of a list get their numbers as names.
    """
    arrays = read_arrays(path)
    if arrays and all(name.startswith(UNNAMED) for name in arrays):
        arrays = {name.removeprefix(UNNAMED): array for name, array in arrays.items()}
    try:
        # Copied, since PyTorch takes neither other byte orders nor negative strides.
        return {n: torch.from_numpy(a.astype(a.dtype.newbyteorder("="))) for n, a in arrays.items()}
    except TypeError as error:
        raise BadInput(f"{path} holds more than numbers: {describe(error)}") from error


def _refuse_npy(path: Path) -> dict[str, Tensor]:
    raise BadInput(
        f"{path} holds one array without names, or a pickle, which may contain code and is not "
        "read: save the weights by name with numpy.savez(file, **weights), as .npz"
    )


FORMATS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": read_safetensors,
    ".pt": read_checkpoint,
    ".pth": read_checkpoint,
    ".ckpt": read_checkpoint,
    ".bin": read_checkpoint,
    ".npz": read_numpy,
    ".npy": _refuse_npy,
}
"""Function that reads a file, by the ending of its name."""


def read_weights(
    source: "Path | str | Mapping[str, Tensor] | ArrayRecord", name: str
) -> tuple[Mapping[str, Tensor], str]:
    """Read weights or an update from a file, or take them as they are.

    Args:
        source: A file in one of ``FORMATS``, tensors by name, or an ``ArrayRecord`` of Flower.
        name: Name of tensors that are in no file, for messages.

    Returns:
        Tensors by name, with floating-point numbers of half and double precision as float32, and
        the name of the source in messages.

    Raises:
        BadInput: If the file cannot be read, or its format is unknown.
    """
    if isinstance(source, Mapping):
        return {key: _tensor(value, f"{name}: {key}") for key, value in source.items()}, name
    path = Path(source)
    read = FORMATS.get(path.suffix.lower())
    if read is None:
        known = ", ".join(each for each in FORMATS if FORMATS[each] is not _refuse_npy)
        raise BadInput(f"the format of {path} is not known by its ending: name a file in {known}")
    tensors = read(path)
    check_memory(4 * sum(each.numel() for each in tensors.values()), f"the weights of {path}")
    return {key: _single(tensor, f"{path}: {key}") for key, tensor in tensors.items()}, str(path)


def _get(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, Mapping) else None


def _tensor(value: Any, name: str) -> Tensor:
    """A tensor of a state_dict, of NumPy, or of an ``ArrayRecord``, whose arrays are serialised."""
    if not isinstance(value, Tensor):
        try:
            value = torch.tensor(value.numpy() if hasattr(value, "numpy") else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"{name} is no tensor: {describe(error)}") from error
    return _single(value, name)


def _single(tensor: Tensor, name: str) -> Tensor:
    if tensor.is_meta or tensor.is_complex() or tensor.layout != torch.strided:
        raise BadInput(f"{name} is no dense tensor of real numbers")
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
