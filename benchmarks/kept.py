"""Finished parts of a benchmark in a file, so that a killed run goes on."""

import hashlib
import json
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

import attacks.reconstruction

Part = TypeVar("Part")


class Kept(Generic[Part]):
    """Finished parts in a file of JSON lines, of which those of other code or data do not count.

    Args:
        file: The file; ``None`` keeps parts in memory only.
        stamp: Text that stands for the code and the data.
        kind: Type of a part.

    Attributes:
        results: Finished parts by name.
    """

    def __init__(self, file: Path | None, stamp: str, kind: TypeAdapter[Part]) -> None:
        self.results: dict[str, Part] = {}
        self._file, self._stamp, self._kind = file, stamp, kind
        if file is not None and file.is_file():
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            self.results = {
                line["cell"]: kind.validate_python(line["result"])
                for line in lines
                if line["stamp"] == stamp
            }

    def add(self, name: str, result: Part) -> None:
        """Keep a finished part."""
        self.results[name] = result
        if self._file is not None:
            line = {"stamp": self._stamp, "cell": name, "result": self._kind.dump_python(result)}
            with self._file.open("a") as lines:
                lines.write(json.dumps(line) + "\n")


def stamp(*files: Path) -> str:
    """Hash of files, such as those of a benchmark and its images, and of the attack."""
    attack = sorted(Path(attacks.reconstruction.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in (*files, *attack))).hexdigest()
