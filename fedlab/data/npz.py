"""Images from one .npz file, in the layout of MedMNIST and many others."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.data.images import CENTRED, ImageData
from fedlab.data.request import Request, takes_argument

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
"""Arrays that the file must have."""


@takes_argument("PATH")
def load_npz(request: Request) -> ImageData:
    """An .npz file with train_images, train_labels, test_images and test_labels.

    ``train_images`` and ``test_images`` are uint8 ``[n, height, width]`` or
    ``[n, height, width, channels]``; ``train_labels`` and ``test_labels`` are whole numbers ``[n]``
    or ``[n, 1]``. An array ``classes`` with the names of the classes is optional. Nothing in the
    file is ever unpickled.

    Raises:
        BadInput: If the file is missing, is no .npz file, or lacks an array.
    """
    path = Path(request.argument).expanduser()
    if not path.is_file():
        raise BadInput(f"data.source names {path}, but there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in KEYS if key not in file.files]:
                raise BadInput(f"{path} has no array {missing[0]}; it needs {', '.join(KEYS)}")
            arrays = {key: file[key] for key in KEYS}
            names = tuple(map(str, file["classes"])) if "classes" in file.files else ()
    except (OSError, ValueError, BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as .npz: {error}") from error
    labels = {key: _labels(arrays[key], key, path) for key in ("train_labels", "test_labels")}
    images = {key: _images(arrays[key], key, path) for key in ("train_images", "test_images")}
    most = max(int(values.max(initial=-1)) for values in labels.values())
    channels = images["train_images"].shape[1]
    return ImageData(
        name=path.stem,
        train_images=images["train_images"],
        train_labels=torch.from_numpy(labels["train_labels"]),
        test_images=images["test_images"],
        test_labels=torch.from_numpy(labels["test_labels"]),
        classes=names or tuple(str(label) for label in range(most + 1)),
        mean=CENTRED[:1] * channels,
        std=CENTRED[1:] * channels,
    )


def _images(array: "np.ndarray[Any, Any]", key: str, path: Path) -> Tensor:
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.dtype != np.uint8:
        raise BadInput(
            f"{path}: {key} must be uint8 [n, height, width] or [n, height, width, channels], "
            f"but is {array.dtype} {list(array.shape)}"
        )
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _labels(array: "np.ndarray[Any, Any]", key: str, path: Path) -> "np.ndarray[Any, Any]":
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise BadInput(
            f"{path}: {key} must be whole numbers [n] or [n, 1], "
            f"but is {array.dtype} {list(array.shape)}"
        )
    return array.astype(np.int64)
