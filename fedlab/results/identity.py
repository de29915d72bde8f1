"""What a run was started with: a record by which another run, or other images, are noticed."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically

FREE = frozenset({"name", "rounds", "engine", "captures", "reconstructions", "trackers", "metrics"})
"""Keys of a scenario that may be edited in a run folder, since no round so far depends on them."""

FIRST_TOGGLED = 2
"""Number of versions of a table that are known: a kill during a toggle leaves the one before."""


class Identity:
    """Digests of the scenario, images, partition, network and code of a run, in ``identity.json``.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """False in a folder of a version that kept no such record."""
        return self._path.is_file()

    @property
    def has_contents(self) -> bool:
        """True if images, partition, network and code are noted as well."""
        return self.exists and "contents" in self._read()

    def note_scenario(self, toml: str) -> None:
        """Add the tables of a scenario, before its file is written."""
        facts = self._read() if self.exists else {"scenario": {}}
        known = facts["scenario"]
        for key, digest in _tables(toml).items():
            if digest not in known.get(key, [])[-1:]:
                known[key] = [*known.get(key, []), digest][-FIRST_TOGGLED:]
        self._write(facts)

    def note_contents(self, contents: Mapping[str, str]) -> None:
        """Write the digests of images, partition, network and code, by what they are called."""
        self._write({**self._read(), "contents": dict(contents)})

    def check_scenario(self, toml: str) -> None:
        """Refuse a scenario that is not the one of the run, but for keys that do not matter.

        Raises:
            BadInput: If a table was changed.
        """
        known, now = self._read()["scenario"], _tables(toml)
        for key in sorted(known.keys() | now.keys()):
            if key not in known or now.get(key) not in known[key]:
                raise BadInput(
                    f"{key} in {self._path.parent / 'scenario.toml'} is not what the run was "
                    "started with: put it back, or start a new run with --out"
                )

    def check_contents(self, contents: Mapping[str, str]) -> None:
        """Refuse images, a partition, a network or code that are not those of the run.

        Raises:
            BadInput: If one of them is another.
        """
        known = self._read().get("contents", {})
        for name, digest in contents.items():
            if known.get(name, digest) != digest:
                raise BadInput(
                    f"{name} of {self._path.parent} changed since the run was started, so nothing "
                    "would be scored against the truth: put back what it had, or start a new run"
                )

    def _read(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(facts["scenario"], dict) or not isinstance(
                facts.get("contents", {}), dict
            ):
                raise TypeError("it holds no tables")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadInput(
                f"{self._path} is damaged, so nobody knows whether scenario and images are those "
                "of the run"
            ) from error
        return facts

    def _write(self, facts: Mapping[str, Any]) -> None:
        write_atomically(self._path, json.dumps(facts, indent=1).encode())


def _tables(toml: str) -> dict[str, str]:
    """SHA-256 of each table of a scenario file that may not be edited."""
    return {
        key: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
        for key, value in tomllib.loads(toml).items()
        if key not in FREE
    }
