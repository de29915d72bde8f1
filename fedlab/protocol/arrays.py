"""Tensors in Flower messages: converted once, however many parties of one process read them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

LONGEST_HEADER = 4096
"""Largest number of bytes that the header of an array may have."""

NUMPY = "numpy.ndarray"
"""Flower's name for the format of ``numpy.save``."""


class TensorArray(Array):
    """A Flower Array that holds a tensor, and becomes bytes only when it leaves the process.

    Args:
        tensor: A contiguous tensor on the CPU; nobody changes it from now on.

    Attributes:
        tensor: The tensor.
    """

    tensor: Tensor

    # Flower writes this name into messages, and reads such an array as one of its own.
    __qualname__ = Array.__qualname__

    def __init__(self, tensor: Tensor) -> None:
        facts = {"dtype": _name(tensor.dtype), "shape": tuple(tensor.shape), "stype": NUMPY}
        # Not one by one, since Flower then looks at each for what it has cached.
        self.__dict__.update(facts, tensor=tensor)

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The array in the format of ``numpy.save``."""
        content = io.BytesIO()
        np.save(content, self.tensor.numpy(), allow_pickle=False)
        return content.getvalue()

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return a copy, which the caller may change."""
        return self.tensor.numpy().copy()

    def __deepcopy__(self, _: object) -> TensorArray:
        """Return the same array, since nobody changes it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the memory of the tensor as it is."""
        return _unpickled, (self.tensor.numpy(),)


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorArray]:
    """Write tensors as arrays, without a copy where they are on the CPU and contiguous."""
    return {name: TensorArray(t.detach().cpu().contiguous()) for name, t in tensors.items()}


def record_of(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Write tensors to a record, without a copy where they are on the CPU and contiguous."""
    record = ArrayRecord()
    for name, array in arrays_of(tensors).items():
        record[name] = array  # not given to the class, which would make arrays of its own
    return record


def read_record(record: ArrayRecord) -> dict[str, Tensor]:
    """Read the tensors of a record from a party that is trusted; do not change them in place."""
    return {name: tensor_of(array) for name, array in record.items()}


def tensor_of(array: Array, *, most: float = math.inf) -> Tensor:
    """Read an array, whose bytes may contain anything; do not change it in place.

    Args:
        array: The array.
        most: Largest number of bytes of its content.

    Raises:
        ValueError: If it is larger, or its bytes are no array.
    """
    if isinstance(array, TensorArray):
        return array.tensor
    if array.stype != NUMPY:
        raise ValueError(f"its format is {array.stype!r}")
    data = array.data
    if len(data) > LONGEST_HEADER + most:
        raise ValueError(f"{len(data)} bytes for {most:g} of content")
    start = _length_of_header(data)
    shape, by_column, dtype = _header(data[:start])
    if (asked := math.prod(shape) * dtype.itemsize) > LONGEST_HEADER + most:
        # NumPy would allocate whatever the header asks for.
        raise ValueError(f"its header asks for {asked} bytes, not {most:g}")
    flat = np.frombuffer(data, dtype, count=math.prod(shape), offset=start)
    # Copied, since sums over memory with another alignment round differently.
    return torch.from_numpy(flat.reshape(shape, order="F" if by_column else "C").copy(order="C"))


def _unpickled(array: np.ndarray[Any, Any]) -> TensorArray:
    # Copied, since sums over memory with another alignment round differently. The array may lie in
    # memory that processes share and nobody may write to.
    tensor = torch.empty(array.shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype)
    tensor.numpy()[...] = array
    return TensorArray(tensor)


@cache
def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _length_of_header(data: bytes) -> int:
    """Number of bytes before the content, by the format of ``numpy.save``.

    Raises:
        ValueError: If the bytes do not begin like one.
    """
    version = np.lib.format.read_magic(io.BytesIO(data[:8]))
    digits = 2 if version[0] == 1 else 4
    return 8 + digits + int.from_bytes(data[8 : 8 + digits], "little")


@lru_cache(maxsize=1024)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of an array; cached, since it is Python code."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0
    if version[0] != 1:
        read = np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(stream, max_header_size=LONGEST_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header states the shape {shape}")
    return shape, by_column, dtype
