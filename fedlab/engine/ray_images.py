"""Images in the object store of Ray, of which every machine keeps one copy for its processes."""

import warnings
from dataclasses import fields
from typing import Any

import numpy as np
import ray
import torch

from fedlab.data.images import ImageData


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
        arrays = {n: v.numpy() for n, v in values.items() if isinstance(v, torch.Tensor)}
        self._stored = ray.put(values | arrays)

    def __call__(self) -> ImageData:
        """Map them into the memory of this process, where nobody may change them."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")
            values: dict[str, Any] = {
                name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                for name, value in ray.get(self._stored).items()
            }
        return ImageData(**values)

    def __getstate__(self) -> dict[str, Any]:
        """What other processes are sent: where the images are."""
        return {"_images": None, "_stored": self._stored}
