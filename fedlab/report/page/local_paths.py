"""Removal of local paths, since a page is sent to others."""

import re
from pathlib import PureWindowsPath

import tomli_w

from fedlab.scenario.scenario import Scenario

_FOLDERS = re.compile(r"(?<![\w./\\])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\",;:][^/\\'\",;:\n]*[/\\])+")
"""Folders before a file name, from the root of a disk or from a home directory."""


def source_of(scenario: Scenario) -> str:
    """Source of the images, with only the last part of a path.

    Example:
        >>> source_of(Scenario(data={"source": "npz:/home/somebody/scans.npz"}))
        'npz:scans.npz'
    """
    kind, colon, path = scenario.data.source.partition(":")
    return kind + colon + _last(path)


def portable_toml(scenario: Scenario) -> str:
    """The scenario as TOML, with ``source_of`` as its source and without ``data.root``."""
    tables = scenario.model_dump(exclude_none=True)
    tables["data"]["source"] = source_of(scenario)
    del tables["data"]["root"]
    return tomli_w.dumps(tables)


def files_needed(scenario: Scenario) -> str:
    """Sentence on the file or folder that the scenario needs beside it; empty if it needs none."""
    kind, _, path = scenario.data.source.partition(":")
    if not _last(path):
        return ""
    return f"Put the {'folder' if kind == 'folder' else 'file'} {_last(path)} beside it."


def without_folders(text: str) -> str:
    """A message in which paths have only their last part.

    Example:
        >>> without_folders('"/home/somebody/scans.npz" cannot be read')
        '"scans.npz" cannot be read'
    """
    return _FOLDERS.sub("", text)


def _last(path: str) -> str:
    # Windows paths include POSIX ones, and the scenario may come from either system.
    return PureWindowsPath(path).name
