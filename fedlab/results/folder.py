"""The run folder: written as rounds end, so that a kill loses at most the round under way."""

import csv
import dataclasses
import io
import json
import math
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fedlab.core.environment import environment
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.views import Viewable
from fedlab.privacy.ledger import Ledger, LedgerRow
from fedlab.privacy.release import History, from_json, to_json
from fedlab.results.recorded_ledger import RecordedLedger, recorded_epsilons
from fedlab.results.rows import ClientRow, LeakageRow, RoundRow
from fedlab.scenario.reproducibility import noise_source
from fedlab.scenario.scenario import Scenario

TABLES = {"clients": ClientRow, "leakage": LeakageRow, "ledger": LedgerRow}
"""Tables as CSV files, one row per fact, by file name without its ending."""

Row = ClientRow | LeakageRow | LedgerRow


class RunFolder(Viewable):
    """A folder that holds one run.

    Args:
        path: Where it is; see ``create`` and ``open``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, scenario: Scenario) -> "RunFolder":
        """Start a run in a new or empty folder.

        Raises:
            BadInput: If the folder holds something already, or cannot be made.
        """
        run = cls(path)
        try:
            if path.is_dir() and any(path.iterdir()):
                raise BadInput(f"{path} is not empty: name another folder with --out")
            path.mkdir(parents=True, exist_ok=True)
            # First of all: from here on a run that was killed can be gone on with.
            run.save_scenario(scenario)
            run.begin(scenario)
        except OSError as error:
            raise BadInput(f"{path} cannot be made: {error}") from error
        return run

    def begin(self, scenario: Scenario) -> None:
        """Set everything beside the scenario to how it is before round 0 is written down."""
        for inner in ("captures", "reconstructions", "checkpoints"):
            (self.path / inner).mkdir(exist_ok=True)
        self._journal.touch()
        facts = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **environment(),
            "engine": scenario.engine.name,
            "dp_noise": noise_source([scenario]),
        }
        write_atomically(self.path / "environment.json", json.dumps(facts, indent=1).encode())
        self.truncate(after=-1)

    @classmethod
    def temporary(cls, scenario: Scenario) -> "RunFolder":
        """Start a run in a folder that is removed when this object is gone."""
        path = Path(tempfile.mkdtemp(prefix="fedlab-"))
        run = cls.create(path, scenario)
        weakref.finalize(run, shutil.rmtree, path, ignore_errors=True)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Go back to a run.

        Raises:
            BadInput: If there is none.
        """
        run = cls(path)
        if not run.holds_a_run:
            raise BadInput(f"{path} holds no run: there is no scenario.toml in it")
        return run

    @property
    def holds_a_run(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "scenario.toml").is_file()

    @property
    def scenario(self) -> Scenario:
        """The scenario as it stands, toggles included."""
        return Scenario.load(self.path / "scenario.toml")

    @property
    def captures(self) -> Path:
        """Where the replies are kept."""
        return self.path / "captures"

    @property
    def poisons(self) -> Path:
        """Where poisoning clients keep what they made once."""
        return self.path / "poisons"

    @property
    def checkpoint(self) -> Path:
        """Everything needed to go on after the last finished round."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def has_ended_a_round(self) -> bool:
        """Whether there is a checkpoint, or must have been one."""
        # The first checkpoint comes after the row of round 1 and before that of round 2.
        return self.checkpoint.is_file() or any(row.round > 1 for row in self.rounds())

    def leaks(self, round: int) -> Path:
        """Images and scores of a round's reconstructions; a picture of the same name is beside."""
        return self.path / "reconstructions" / f"round-{round:04d}.npz"

    @property
    def leak_files(self) -> list[Path]:
        """The files of ``leaks`` that there are, in order of the rounds."""
        return sorted((self.path / "reconstructions").glob("round-*.npz"))

    @property
    def picture_file(self) -> Path:
        """PNG file with the reconstructions of all rounds."""
        return self.path / "reconstructions" / "all-rounds.png"

    def save_scenario(self, scenario: Scenario) -> None:
        """Write the scenario, anew after each toggle."""
        write_atomically(self.path / "scenario.toml", scenario.to_toml().encode())

    def save_toggle(self, scenario: Scenario, event: Mapping[str, Any]) -> None:
        """Write the scenario anew and note the toggle that changed it, or neither if one fails."""
        notes, line = self.path / "toggles.jsonl", json.dumps(event) + "\n"
        before = notes.read_bytes() if notes.is_file() else None
        write_atomically(notes, (before or b"") + line.encode())
        try:
            self.save_scenario(scenario)
        except BaseException:
            if before is None:
                notes.unlink()
            else:
                write_atomically(notes, before)
            raise

    def append_round(self, row: RoundRow) -> None:
        """Append a line to ``rounds.jsonl``."""
        with (self.path / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(_strict(dataclasses.asdict(row))) + "\n")

    def append(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows to one of the CSV tables."""
        with (self.path / f"{table}.csv").open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(dataclasses.astuple(row) for row in rows)

    def note_spending(self, spent: Mapping[int, History]) -> None:
        """Write down what clients spent, at once and for good.

        It is a line for each exchange, written before the replies are used: whatever happens to the
        round afterwards, they were sent, and count.
        """
        parts = (f'"{client}":{to_json(entries)}' for client, entries in spent.items())
        with self._journal.open("a", encoding="utf-8") as file:
            file.write("{" + ",".join(parts) + "}\n")
            file.flush()
            os.fsync(file.fileno())

    def spending(self) -> dict[int, History]:
        """Every client's accountant history, by partition id.

        Raises:
            BadInput: If the journal is lost or damaged: no epsilon would be right.
        """
        histories: dict[int, History] = {}
        if not self._journal.is_file() and not self.rounds():
            return histories  # killed while the folder was made
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines(keepends=True)
            for line in lines:
                if not line.endswith("\n"):
                    break  # killed in this write, before any use of the replies
                for client, entries in json.loads(line).items():
                    more = from_json(json.dumps(entries))
                    histories[int(client)] = (*histories.get(int(client), ()), *more)
        except (OSError, ValueError, AttributeError) as error:
            raise BadInput(
                f"{self._journal} cannot be read, and without it no epsilon would be right: {error}"
            ) from error
        return histories

    def ledger(self) -> Ledger:
        """The privacy account of every client, interrupted rounds included.

        Raises:
            BadInput: If the journal of privacy costs is lost or damaged.
        """
        privacy, histories = self.scenario.privacy, self.spending()
        accountant, delta = privacy.accountant, privacy.delta
        recorded = recorded_epsilons(
            self.path / "ledger.csv", histories, accountant=accountant, delta=delta
        )
        return RecordedLedger(histories, accountant, delta, privacy.labels_public, recorded)

    @property
    def _journal(self) -> Path:
        return self.path / "spending.jsonl"

    def rounds(self) -> list[RoundRow]:
        """The rounds so far."""
        file = self.path / "rounds.jsonl"
        if not file.is_file():
            return []
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        # A kill may have left the last line half written; it then has no end.
        return [RoundRow(**json.loads(line)) for line in lines if line.endswith("\n")]

    def table(self, name: str) -> pd.DataFrame:
        """One of the CSV tables."""
        return pd.read_csv(self.path / f"{name}.csv", keep_default_na=False, na_values=["", "nan"])

    def truncate(self, *, after: int) -> None:
        """Forget rows of later rounds, and what a kill may have left half written."""
        if self._journal.is_file():
            whole, _, _ = self._journal.read_bytes().rpartition(b"\n")
            write_atomically(self._journal, whole + b"\n" if whole else b"")
        kept = [row for row in self.rounds() if row.round <= after]
        write_atomically(
            self.path / "rounds.jsonl",
            "".join(json.dumps(_strict(dataclasses.asdict(row))) + "\n" for row in kept).encode(),
        )
        for name, kind in TABLES.items():
            file = self.path / f"{name}.csv"
            columns = [field.name for field in dataclasses.fields(kind)]
            rows = _rows_until(file, columns, after) if file.is_file() else []
            text = io.StringIO(newline="")
            writer = csv.writer(text)
            writer.writerow(columns)
            writer.writerows(rows)
            write_atomically(file, text.getvalue().encode())

    def size(self) -> int:
        """Bytes in all files of the run."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"


def next_free(folder: Path, name: str) -> Path:
    """``folder/name``, or the first of ``folder/name-2``, ``-3``, ... that is free."""
    path, number = folder / name, 2
    while path.exists():
        path, number = folder / f"{name}-{number}", number + 1
    return path


def _rows_until(file: Path, columns: list[str], after: int) -> Iterable[list[str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        reader = csv.reader(opened)
        # A run of an earlier version may lack the last columns.
        before = next(reader, columns)
        later = [""] * (len(columns) - len(before))
        place = columns.index("round")
        rows = (row for row in reader if len(row) == len(before))
        return [[*row, *later] for row in rows if int(row[place]) <= after]


def _strict(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity and no NaN; both become null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
