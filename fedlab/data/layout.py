"""Where the pictures of a folder are: its class folders, and its training and test folder."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from fedlab.core.errors import BadInput
from fedlab.data.pictures import is_picture

SPLITS = {
    "training": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation"),
}
"""Names of the folders of a split, in lower case."""

SYSTEM = ("__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information")
"""Folders that archives, Python, and file servers leave behind, in lower case."""

log = logging.getLogger(__name__)

Samples = dict[str, list[Path]]
"""The picture files of each class, both in order of their names."""


@dataclass(frozen=True)
class Layout:
    """The pictures of a data set by class.

    Attributes:
        training: Training pictures, or all pictures where the folder is not split.
        testing: Test pictures; ``None`` where the folder is not split.
    """

    training: Samples
    testing: Samples | None


def find_pictures(root: Path) -> Layout:
    """Find the pictures of a folder with one folder of pictures per class, split or not.

    Hidden folders and files, and those that operating systems leave behind, are left out.

    Args:
        root: The folder.

    Raises:
        BadInput: If the folders are ambiguous, a class has no picture, or a link leads out of the
            folder.
    """
    folders = _folders(root, root)
    split = {kind: _split_folder(folders, kind, root) for kind in SPLITS}
    if split["training"] is None:
        if other := split["test"] or split["validation"]:
            raise BadInput(f"{other} holds classes, but there is no folder train beside it")
        if folders and all(_kind(folder) for folder in folders):
            raise BadInput(f"{folders[0]} needs one folder of pictures per class")
        return Layout(_samples(root, root), None)
    held_out = split["test"] or split["validation"]
    if held_out is None:
        raise BadInput(
            f"{root} has a folder {split['training'].name}, but neither test nor val beside it"
        )
    if unused := [f.name for f in folders if f not in (split["training"], held_out)]:
        log.warning("%s: the folders %s are left out", root, ", ".join(map(ascii, unused)))
    layout = Layout(_samples(split["training"], root), _samples(held_out, root))
    if layout.testing is not None and list(layout.testing) != list(layout.training):
        raise BadInput(
            f"{held_out} has the classes {', '.join(map(ascii, layout.testing))}, but "
            f"{split['training'].name} has {', '.join(map(ascii, layout.training))}"
        )
    return layout


def _kind(folder: Path) -> str | None:
    """The split that a folder is named after."""
    return next((kind for kind, names in SPLITS.items() if folder.name.lower() in names), None)


def _split_folder(folders: list[Path], kind: str, root: Path) -> Path | None:
    """The folder of a split: it is named after it and holds folders, so it is no class."""
    found = [each for each in folders if _kind(each) == kind and _folders(each, root)]
    if len(found) > 1:
        raise BadInput(f"{root} has two {kind} folders, {found[0].name} and {found[1].name}")
    return found[0] if found else None


def _samples(folder: Path, root: Path) -> Samples:
    """The pictures of each class folder; pictures in folders within belong to the class."""
    samples: Samples = {}
    ignored: list[Path] = []
    for place in _folders(folder, root):
        inner = _folders(place, root)
        if inner and all(_kind(each) for each in inner):
            raise BadInput(
                f"{place} holds {inner[0].name}, which is no class: name {place} if it is the "
                "whole data set, or sort the pictures into train/CLASS and test/CLASS"
            )
        files = _files(place, root)
        samples[place.name] = [file for file in files if is_picture(file)]
        ignored += [file for file in files if not is_picture(file)]
        if not samples[place.name]:
            raise BadInput(f"{place} has no picture: every folder of a class needs some")
    if not samples:
        raise BadInput(f"{folder} needs one folder of pictures per class, but has no folder")
    if ignored:
        named = len(ignored), folder, ignored[0].name
        log.warning("%d files in %s are left out, since they are no pictures, such as %a", *named)
    return samples


def _folders(folder: Path, root: Path) -> list[Path]:
    return [each for each in _visible(folder, root) if each.is_dir()]


def _files(folder: Path, root: Path) -> list[Path]:
    """All files in a folder and in folders within, except in links to folders."""
    found = []
    for each in _visible(folder, root):
        if not each.is_dir():
            found.append(each)
        elif not each.is_symlink():  # may be a circle
            found += _files(each, root)
    return found


def _visible(folder: Path, root: Path) -> list[Path]:
    """Files and folders that are neither hidden nor left behind by a system, in order."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}") from error
    places = [folder / n for n in names if not n.startswith(".") and n.lower() not in SYSTEM]
    inside = root.resolve()
    for place in places:
        if place.is_symlink() and not place.resolve().is_relative_to(inside):
            raise BadInput(f"{place} is a link that leads out of {root}: copy what it leads to")
    return places
