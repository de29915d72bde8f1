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
    groups = None if request.group_by is None else _column(train, request.group_by, name)
    return ImageData(
        name=Path(name).name,
        train_images=images[0].expand(-1, channels, -1, -1),
        train_labels=labels["train"],
        test_images=images[1].expand(-1, channels, -1, -1),
        test_labels=labels["test"],
        classes=classes,
        mean=CENTRED[:1] * channels,
        std=CENTRED[1:] * channels,
        train_groups=None if groups is None else _numbers(groups),
    )


def _load(name: str, subset: str, *, download: bool) -> Mapping[str, Any]:
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
    from datasets import Image

    for place, row in enumerate(
        part.select_columns(column).cast_column(column, Image(decode=False))
    ):
        picture = row[column] or {}
        what = f"picture {place} of {name}"
        if picture.get("bytes"):
            yield what, picture["bytes"]
        elif picture.get("path"):
            yield what, Path(picture["path"])
        else:
            raise BadInput(f"{what} is missing")


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
    texts = {split: list(map(str, each)) for split, each in values.items()}
    known = np.unique([text for each in texts.values() for text in each]).tolist()
    place = {text: number for number, text in enumerate(known)}
    return {s: torch.tensor([place[t] for t in each]) for s, each in texts.items()}, tuple(known)


def _numbers(values: list[Any]) -> Tensor:
    return torch.from_numpy(np.unique(list(map(str, values)), return_inverse=True)[1])
