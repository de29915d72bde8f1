"""Images of the Hugging Face Hub, or of a folder in its layout, read by its library."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.core.plugins import describe
from fedlab.core.seeds import generator
from fedlab.data.folders import TEST_SHARE
from fedlab.data.images import CENTRED, ImageData
from fedlab.data.pictures import read_encoded
from fedlab.data.request import Request, reads, takes_argument

TEST_SPLITS = ("test", "validation", "valid", "val")
"""Names of the split with the test images; the first that is there is used."""

log = logging.getLogger(__name__)


@takes_argument("NAME")
@reads("download", "image_size", "label_by", "group_by")
def load_hub(request: Request) -> ImageData:
    """A data set of the Hugging Face Hub, such as ``hf:uoft-cs/cifar10`` or ``hf:NAME:SUBSET``.

    NAME may also be a folder in one of the Hub's layouts. Files are read from the cache of Hugging
    Face, which ``HF_HOME`` moves; nothing is asked of a network unless ``download`` is true. The
    pictures are in the only column of pictures, and the labels in the only one of class labels, or
    in ``label_by``. Without a split named test or validation, a fifth of the images is the test
    set.

    Raises:
        BadInput: If the data set is not there, or has other columns.
    """
    name, _, subset = request.argument.partition(":")
    if Path(request.argument).exists():  # also one with a drive's colon
        name, subset = request.argument, ""
    splits = _load(name, subset, download=request.download)
    if "train" not in splits:
        raise BadInput(f"{name} has no split train, but {', '.join(splits)}")
    train = splits["train"]
    test = next((splits[each] for each in TEST_SPLITS if each in splits), None)
    if test is None:
        order = torch.randperm(len(train), generator=generator(0, "hub split")).tolist()
        count = max(1, round(TEST_SHARE * len(train)))
        train, test = train.select(sorted(order[count:])), train.select(sorted(order[:count]))
    pictures = _pictures_of(train, name)
    images = [
        read_encoded(
            _encoded(part, pictures, name),
            len(part),
            size=request.image_size,
            where=f"pictures of {name}",
        )
        for part in (train, test)
    ]
    column = request.label_by or _labels_of(train, name)
    labels, classes = _numbered({"train": train, "test": test}, column, name)
    channels = max(each.shape[1] for each in images)
    by, groups = request.group_by, None
    if by is not None:
        groups = _distinct(_column(train, by, name), by, name)[1]
    return ImageData(
        name=Path(name).name,
        train_images=images[0].expand(-1, channels, -1, -1),
        train_labels=labels["train"],
        test_images=images[1].expand(-1, channels, -1, -1),
        test_labels=labels["test"],
        classes=classes,
        mean=CENTRED[:1] * channels,
        std=CENTRED[1:] * channels,
        train_groups=groups,
    )


def _load(name: str, subset: str, *, download: bool) -> Mapping[str, Any]:
    card = Path(name) / "README.md"
    if not download and card.is_file() and "://" in _front_matter(card):
        raise BadInput(
            f"{card} names files elsewhere, which are not fetched unless data.download is true"
        )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise BadInput(
            f"data.source hf:{name} needs the library datasets: pip install "
            '"fedlab-privacy[datasets]"'
        ) from error
    if download:
        log.info("%s: looking in the cache of Hugging Face, and downloading missing files", name)
    try:
        with _offline(not download):
            found: Mapping[str, Any] = load_dataset(name, subset or None)
    except Exception as error:  # anything: no network, no such data set, a damaged file
        hint = "" if download or Path(name).exists() else "; data.download = true fetches it"
        raise BadInput(f"hf:{name} cannot be loaded: {describe(error)}{hint}") from error
    return found


def _front_matter(card: Path) -> str:
    """The settings at the beginning of a data set's card, which name its files."""
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    return parts[1] if len(parts) == 3 else ""


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Keep the library from asking the network, as ``HF_HUB_OFFLINE`` does from its import on."""
    from datasets import config
    from huggingface_hub import constants

    places: tuple[Any, ...] = (config, constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = wanted or place.HF_HUB_OFFLINE
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _pictures_of(part: Any, name: str) -> str:
    from datasets import Image

    found = [each for each, feature in part.features.items() if isinstance(feature, Image)]
    if len(found) != 1:
        raise BadInput(f"{name} needs one column of pictures, and has {len(found)}")
    return str(found[0])


def _labels_of(part: Any, name: str) -> str:
    from datasets import ClassLabel

    found = [each for each, feature in part.features.items() if isinstance(feature, ClassLabel)]
    if len(found) != 1:
        raise BadInput(
            f"{name} has {len(found)} columns of class labels: name one by data.label_by, of "
            f"{', '.join(part.column_names)}"
        )
    return str(found[0])


def _encoded(part: Any, column: str, name: str) -> Iterator[tuple[str, bytes | Path]]:
    """Name and contents of each picture, which ``datasets`` does not decode: it has no limits."""
    from datasets import Image, config

    roots = [
        Path(each).resolve() for each in (name, config.HF_CACHE_HOME, config.HF_DATASETS_CACHE)
    ]
    encoded = part.select_columns(column).cast_column(column, Image(decode=False))
    for place, row in enumerate(encoded):
        picture = row[column] or {}
        what = f"picture {place} of {name}"
        if picture.get("bytes"):
            yield what, picture["bytes"]
            continue
        file = Path(picture.get("path") or "").resolve()
        if not file.is_file():
            raise BadInput(f"{what} is missing")
        if not any(file.is_relative_to(root) for root in roots):  # any file of this machine
            raise BadInput(f"{what} is said to be {file}, which is outside of the data set")
        yield what, file


def _column(part: Any, column: str, name: str) -> list[Any]:
    if column not in part.column_names:
        raise BadInput(f'{name} has no column "{column}", but {", ".join(part.column_names)}')
    return list(part[column])


def _numbered(
    parts: Mapping[str, Any], column: str, name: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Labels numbered from 0, and the names of the classes in that order."""
    values = {split: _column(part, column, name) for split, part in parts.items()}
    if names := getattr(parts["train"].features[column], "names", None):
        if any(not 0 <= value < len(names) for each in values.values() for value in each):
            raise BadInput(f'{name} has images without a label in "{column}"')
        return {split: torch.tensor(each) for split, each in values.items()}, tuple(names)
    known, numbers = _distinct([v for each in values.values() for v in each], column, name)
    parts_of = torch.split(numbers, [len(each) for each in values.values()])
    return dict(zip(values, parts_of, strict=True)), tuple(known)


def _distinct(values: list[Any], column: str, name: str) -> tuple[list[str], Tensor]:
    """The values of a column in order, whole numbers by size, and the place of each row's."""
    if any(value is None for value in values):
        raise BadInput(f'{name} has rows without a value in "{column}"')
    whole = all(isinstance(value, int) for value in values)
    found, places = np.unique(values if whole else list(map(str, values)), return_inverse=True)
    return list(map(str, found)), torch.from_numpy(places)
