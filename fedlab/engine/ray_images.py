"""Images in the object store of Ray, of which every machine keeps one copy for its processes."""

import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import ray
import torch

from fedlab.data.images import ImageData


@dataclass(frozen=True)
class Memory:
    """A tensor as it lies in memory, since on the order the bits of a layer depend.

    Attributes:
        values: All values in the order of the memory.
        shape: Shape of the tensor.
        strides: Its strides.
    """

    values: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Memory":
        """Copy a tensor, in its order."""
        dense = tensor.clone()  # a copy is without gaps, and keeps the order
        flat = dense.as_strided((dense.numel(),), (1,))
        return cls(flat.numpy(), tuple(dense.shape), dense.stride())

    def tensor(self) -> torch.Tensor:
        """The tensor again, without a copy; nobody may change it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")
            return torch.from_numpy(self.values).as_strided(self.shape, self.strides)


class StoredImages:
    """Images in Ray's object store.

    Args:
        images: The images.
    """

    def __init__(self, images: ImageData) -> None:
        self._images: ImageData | None = images
        self._stored: Any = None

    def store(self) -> None:
        """Copy them to the store of this machine, from where other machines fetch them."""
        here = self._images.to("cpu") if self._images else None
        values = {each.name: getattr(here, each.name) for each in fields(ImageData)}
        memory = {n: Memory.of(v) for n, v in values.items() if isinstance(v, torch.Tensor)}
        self._stored = ray.put(values | memory)

    def __call__(self) -> ImageData:
        """Map them into the memory of this process."""
        values: dict[str, Any] = {
            name: value.tensor() if isinstance(value, Memory) else value
            for name, value in ray.get(self._stored).items()
        }
        return ImageData(**values)

    def __getstate__(self) -> dict[str, Any]:
        """What other processes are sent: where the images are."""
        return {"_images": None, "_stored": self._stored}
