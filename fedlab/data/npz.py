"""Images from one .npz file, in the layout of MedMNIST and many others."""

import logging
from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.core.memory import check_memory
from fedlab.core.plugins import describe
from fedlab.data.images import CENTRED, ImageData
from fedlab.data.request import Request, reads, takes_argument

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
"""Arrays that the file must have."""

GROUPS = "train_groups"
"""Array that the file may have: where each training image comes from."""

ENCRYPTED = 1
"""Bit of a zip member's flags that says it needs a password."""

MOST = 2**53
"""Bound of labels, below which floating point numbers are exact."""

log = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]


@takes_argument("PATH")
@reads()
def load_npz(request: Request) -> ImageData:
    """An .npz file with train_images, train_labels, test_images and test_labels.

    ``train_images`` and ``test_images`` are uint8 ``[n, height, width]`` or
    ``[n, height, width, channels]``; ``train_labels`` and ``test_labels`` are whole numbers or
    texts, ``[n]`` or ``[n, 1]``. An array ``classes`` with the names of the classes is optional;
    without it, labels that are not 0, 1, 2 and so on are numbered in their order and keep their
    values as names. An array ``train_groups``, ``[n]`` or ``[n, 1]``, is optional too: it says
    where each training image comes from, for the partition ``natural``. Nothing in the file is
    ever unpickled.

    Raises:
        BadInput: If the file is missing, is no .npz file, lacks an array, or has one that is not
            what its header says.
    """
    path = Path(request.argument).expanduser()
    if not path.is_file():
        what = "that is no regular file" if path.exists() else "but there is no such file"
        raise BadInput(f"data.source names {path}, {what}")
    arrays = read_arrays(path, needed=KEYS, wanted=(*KEYS, "classes", GROUPS))
    images = {key: _images(arrays[key], key, path) for key in ("train_images", "test_images")}
    parts = {key: _label_values(arrays[key], key, path) for key in ("train_labels", "test_labels")}
    names = _names(arrays["classes"], path) if "classes" in arrays else ()
    labels, classes = _numbered(parts, names, path)
    channels = images["train_images"].shape[1]
    groups = None
    if GROUPS in arrays:
        values = _label_values(arrays[GROUPS], GROUPS, path)
        groups = torch.from_numpy(np.unique(values, return_inverse=True)[1])
    return ImageData(
        name=path.stem,
        train_images=images["train_images"],
        train_labels=labels["train_labels"],
        test_images=images["test_images"],
        test_labels=labels["test_labels"],
        classes=classes,
        mean=CENTRED[:1] * channels,
        std=CENTRED[1:] * channels,
        train_groups=groups,
    )


def load_labelled(path: Path) -> tuple[Tensor, Tensor]:
    """Read an .npz file with a few images and their labels, such as those of one client.

    Args:
        path: File with ``images``, uint8 ``[n, height, width]`` or ``[n, height, width,
            channels]``, and ``labels``, whole numbers ``[n]`` that count the classes from 0.

    Returns:
        uint8 ``[n, channels, height, width]``, and int64 ``[n]``.

    Raises:
        BadInput: If the file cannot be read, or has other arrays.
    """
    arrays = read_arrays(path, needed=("images", "labels"), wanted=("images", "labels"))
    images, labels = _images(arrays["images"], "images", path), arrays["labels"]
    values = _label_values(labels, "labels", path)
    if values.dtype.kind != "i" or len(values) != len(images) or not len(images):
        raise BadInput(
            f"{path}: labels must be whole numbers, one for each image, but are {labels.dtype} "
            f"{list(labels.shape)} for {len(images)} images"
        )
    return images, torch.from_numpy(values)


def read_arrays(
    path: Path, *, needed: Sequence[str] = (), wanted: Collection[str] | None = None
) -> dict[str, Array]:
    """Read arrays of an .npz file by name, without ever unpickling anything.

    Args:
        path: The file.
        needed: Arrays that the file must have.
        wanted: Arrays to read where the file has them; ``None`` for all.

    Raises:
        BadInput: If the file is no .npz file, lacks an array, or has one that is not what its
            header says.
    """
    try:
        with ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [key for key in needed if key not in members]:
                raise BadInput(f"{path} has no array {missing[0]}; it needs {', '.join(needed)}")
            chosen = {k: info for k, info in members.items() if wanted is None or k in wanted}
            check_memory(sum(info.file_size for info in chosen.values()), f"the arrays of {path}")
            return {key: _array(archive, info, f"{path}: {key}") for key, info in chosen.items()}
    except BadInput:
        raise
    except Exception as error:  # a damaged file may raise anything in zipfile, zlib and NumPy
        raise BadInput(f"{path} cannot be read as .npz: {describe(error)}") from error


def _array(archive: ZipFile, info: ZipInfo, name: str) -> Array:
    """Read an array whose header agrees with the size of its data, so that nothing else is made."""
    if info.flag_bits & ENCRYPTED:
        raise BadInput(f"{name} is encrypted: save the file without a password")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject or dtype.fields or not dtype.itemsize:
            raise BadInput(f"{name} holds objects or records, which are not read")
        stored = info.file_size - file.tell()
        if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != stored:
            raise BadInput(
                f"{name} says that it is {dtype} {list(shape)}, but it has {stored} bytes of data"
            )
    with archive.open(info) as file:
        array: Array = npy.read_array(file, allow_pickle=False)
    return array


def _images(array: Array, key: str, path: Path) -> Tensor:
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.dtype != np.uint8:
        raise BadInput(
            f"{path}: {key} must be uint8 [n, height, width] or [n, height, width, channels] with "
            f"pixels from 0 to 255, but is {array.dtype} {list(array.shape)}"
        )
    if array.shape[3] not in (1, 3):
        raise BadInput(
            f"{path}: {key} must be [n, height, width, channels] with 1 or 3 channels, but is "
            f"{list(array.shape)}"
        )
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _label_values(array: Array, key: str, path: Path) -> Array:
    """Labels ``[n]``, as int64 or as texts."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind in "SU":
        return _texts(array, path)
    whole = array.ndim == 1 and array.dtype.kind in "iubf"
    if not whole or not np.all((array == np.floor(array)) & (np.abs(array) < MOST)):
        raise BadInput(
            f"{path}: {key} must be whole numbers or texts, [n] or [n, 1], "
            f"but is {array.dtype} {list(array.shape)}"
        )
    return array.astype(np.int64)


def _texts(array: Array, path: Path) -> Array:
    """Texts of an array of texts or of bytes in UTF-8."""
    try:
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} has a text that is not UTF-8: {error}") from error


def _names(array: Array, path: Path) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "iuSU":
        raise BadInput(
            f"{path}: classes must be names [k], but is {array.dtype} {list(array.shape)}"
        )
    return tuple(map(str, _texts(array, path) if array.dtype.kind in "SU" else array))


def _numbered(
    parts: Mapping[str, Array], names: tuple[str, ...], path: Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Labels numbered from 0, and the names of the classes in that order."""
    if len({part.dtype.kind for part in parts.values()}) > 1:
        raise BadInput(f"{path}: train_labels and test_labels must be both numbers or both texts")
    given = np.concatenate([*parts.values()])
    values, numbers = np.unique(given, return_inverse=True)
    texts = tuple(map(str, values))
    if given.dtype.kind == "U" and names:
        if unknown := [text for text in texts if text not in names]:
            raise BadInput(f"{path}: the label {unknown[0]!a} is not in classes")
        numbers = np.array([names.index(text) for text in texts], dtype=np.int64)[numbers]
    elif names:
        counts_from_one = len(values) and values[0] == 1 and values[-1] == len(names)
        numbers = given - 1 if counts_from_one else given
    if given.dtype.kind == "i" and not np.array_equal(given, numbers):
        log.warning("%s: labels from %s to %s are numbered from 0", path, texts[0], texts[-1])
    pieces = np.split(numbers, [len(next(iter(parts.values())))])
    return dict(zip(parts, map(torch.from_numpy, pieces), strict=True)), names or texts
