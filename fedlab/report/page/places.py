"""A scenario without the places of the machine that it ran on: a page is sent to others."""

import re
from pathlib import PureWindowsPath

import tomli_w

from fedlab.scenario.scenario import Scenario

_FOLDERS = re.compile(r"(?<![\w./\\])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\",;:][^/\\'\",;:\n]*[/\\])+")
"""Folders in front of a name, from the root of a disk or from somebody's home."""


def source_of(scenario: Scenario) -> str:
    """Where the images come from; of a path only its last part.

    Example:
        >>> source_of(Scenario(data={"source": "npz:/home/somebody/scans.npz"}))
        'npz:scans.npz'
    """
    kind, colon, path = scenario.data.source.partition(":")
    return kind + colon + _last(path)


def toml_of(scenario: Scenario) -> str:
    """The scenario as TOML, with ``source_of`` as its source and without ``data.root``."""
    tables = scenario.model_dump(exclude_none=True)
    tables["data"]["source"] = source_of(scenario)
    del tables["data"]["root"]
    return tomli_w.dumps(tables)


def put_beside(scenario: Scenario) -> str:
    """What has to lie beside the scenario to run it again, as a sentence with a space in front."""
    kind, colon, path = scenario.data.source.partition(":")
    if not colon or not _last(path):
        return ""
    return f" Put the {'folder' if kind == 'folder' else 'file'} {_last(path)} beside it."


def without_places(text: str) -> str:
    """A message in which paths have only their last part.

    Example:
        >>> without_places('"/home/somebody/scans.npz" cannot be read')
        '"scans.npz" cannot be read'
    """
    return _FOLDERS.sub("", text)


def _last(path: str) -> str:
    # Of either kind of path: a page may be written on another machine than the scenario.
    return PureWindowsPath(path).name
