"""A tracker."""

import json

from fedlab.core.trackers import Tracker


class Log(Tracker):
    """Writes the numbers of every round to a file."""

    file: str = "example.jsonl"
    """Name of the file in the tracker's folder."""

    def start(self, run):
        self._path = run.folder / self.file
        run.folder.mkdir(parents=True, exist_ok=True)

    def log(self, round, scalars, images):
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"round": round, **scalars}) + "\n")
