"""The run folder, written round by round: a kill loses at most the round under way."""

import csv
import dataclasses
import io
import json
import math
import shutil
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from fedlab.core.environment import environment
from fedlab.core.errors import BadInput
from fedlab.core.files import GrowingDigest, folder_name, named, write_atomically
from fedlab.core.plugins import looking
from fedlab.core.views import Viewable
from fedlab.privacy.ledger import Ledger, LedgerRow
from fedlab.privacy.release import History
from fedlab.results.identity import Identity
from fedlab.results.journal import SpendingJournal
from fedlab.results.recorded_ledger import (
    RecordedLedger,
    recorded_ceilings,
    recorded_epsilons,
    worst_recorded,
)
from fedlab.results.rows import ClientRow, LeakageRow, RoundRow, columns_of, values_by_column
from fedlab.results.table_files import (
    TABLES,
    header,
    read_lines,
    read_rounds,
    read_table,
    whole_rows,
)
from fedlab.results.temporary import temporary_folder
from fedlab.scenario.reproducibility import noise_source
from fedlab.scenario.scenario import Scenario

LOCK = ".lock"
"""File that the process locks which writes to the folder."""

Row = ClientRow | LeakageRow | LedgerRow


class RunFolder(Viewable):
    """A folder that holds one run.

    Args:
        path: Path of the folder; ``create`` and ``open`` check it.

    Raises:
        BadInput: If the path cannot exist.
    """

    def __init__(self, path: Path) -> None:
        if "\0" in str(path):
            raise BadInput("a path cannot contain the character 0")
        self.path = path
        self.identity = Identity(path / "identity.json")
        self.journal = SpendingJournal(path / "spending.jsonl")
        self._ledger_digest = GrowingDigest()
        self._lock = FileLock(
            path.absolute() / LOCK, timeout=0, is_singleton=True, thread_local=False
        )

    @classmethod
    def create(cls, path: Path, scenario: Scenario) -> "RunFolder":
        """Start a run in a new or empty folder.

        Args:
            path: Path of the folder.
            scenario: The scenario of the run.

        Raises:
            BadInput: If the folder is not empty, or cannot be created.
        """
        run = cls(path)
        try:
            if path.is_dir() and not all(map(_is_leftover, path.iterdir())):
                raise BadInput(f"{path} is not empty: name another folder with --out")
            path.mkdir(parents=True, exist_ok=True)
            run.claim()
            for leftover in path.glob("*.partial"):
                leftover.unlink()
            (path / "identity.json").unlink(missing_ok=True)
            # The first file: from here on, a run that was killed can be resumed.
            run.save_scenario(scenario)
            run.begin(scenario)
        except OSError as error:
            raise BadInput(f"{path} cannot be made: {error}") from error
        return run

    def begin(self, scenario: Scenario) -> None:
        """Create all files and folders except the scenario, as they are before round 0."""
        for inner in ("captures", "reconstructions", "checkpoints"):
            (self.path / inner).mkdir(exist_ok=True)
        if not self.journal.path.is_file():
            self.journal.begin()
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
        """Start a run in a temporary folder, which is deleted with the last reference to it."""
        path, discard = temporary_folder()
        run = cls.create(path, scenario)
        weakref.finalize(run, discard)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open the folder of an earlier run.

        Raises:
            BadInput: If the folder holds no run.
        """
        run = cls(path)
        if not run.holds_a_run:
            begun = path.is_dir() and all(map(_is_leftover, path.iterdir()))
            cut = begun and any(path.iterdir())
            raise BadInput(
                f"{path} holds no run: there is no scenario.toml in it"
                + (", since it was ended before it began: start it anew with fedlab run" * cut)
            )
        return run

    def claim(self) -> None:
        """Become the one process that writes to the folder, until ``release`` or its end.

        Raises:
            BadInput: If another process writes to it.
        """
        try:
            if not self._lock.is_locked:
                self._lock.acquire()
        except Timeout as error:
            raise BadInput(
                f"another process is writing to {self.path}: wait until it has ended"
            ) from error
        except OSError as error:
            raise BadInput(f"{self.path} cannot be written to: {error.strerror}") from error

    def release(self) -> None:
        """Let other processes write to the folder."""
        self._lock.release(force=True)

    def discard_unless_spent(self) -> None:
        """Delete the folder of a run that was refused before any client sent anything."""
        if not self.spending():
            self.release()
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def holds_a_run(self) -> bool:
        """True if a run was started in the folder."""
        return (self.path / "scenario.toml").is_file()

    @property
    def scenario(self) -> Scenario:
        """The scenario with all toggles so far, to look at: it imports no code that it names.

        Raises:
            BadInput: If the file is damaged, or not the one that the run wrote.
        """
        with looking("run"):
            return self.scenario_to_run()

    def scenario_to_run(self) -> Scenario:
        """The scenario with all toggles so far; this imports the plug-ins that it names.

        Raises:
            BadInput: If the file is damaged or not the one that the run wrote, or a plug-in cannot
                be imported.
        """
        file = self.path / "scenario.toml"
        scenario = Scenario.load(file)
        if self.identity.exists:
            self.identity.check_scenario(file.read_text(encoding="utf-8-sig"))
        elif self.journal.is_sealed:
            raise BadInput(
                f"{self.path}/identity.json is missing, so nobody knows whether scenario and "
                "images are those of the run"
            )
        return scenario

    @property
    def captures(self) -> Path:
        """Folder of the kept captures."""
        return self.path / "captures"

    @property
    def tunings(self) -> Path:
        """File with the settings that attacks chose on surrogate clients, and their power."""
        return self.path / "tunings.json"

    @property
    def poisons(self) -> Path:
        """Folder in which poisoning clients cache crafted images."""
        return self.path / "poisons"

    @property
    def checkpoint(self) -> Path:
        """File with everything that the round after the last finished one needs."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def has_ended_a_round(self) -> bool:
        """True if there is a checkpoint, or must have been one."""
        # The first checkpoint comes after the row of round 1 and before that of round 2.
        return self.checkpoint.is_file() or any(row.round > 1 for row in self.rounds())

    def leaks(self, round: int) -> Path:
        """File with images and scores of a round's reconstructions, beside a PNG of that name."""
        return self.path / "reconstructions" / f"round-{round:04d}.npz"

    @property
    def leak_files(self) -> list[Path]:
        """The existing files of ``leaks``, in order of the rounds."""
        return sorted((self.path / "reconstructions").glob("round-*.npz"))

    @property
    def picture_file(self) -> Path:
        """PNG file with the reconstructions of all rounds."""
        return self.path / "reconstructions" / "all-rounds.png"

    def save_scenario(self, scenario: Scenario) -> None:
        """Write the scenario; done at the start and after each toggle."""
        toml = scenario.to_toml()
        self.identity.note_scenario(toml)
        write_atomically(self.path / "scenario.toml", toml.encode())

    def note_identity(self, contents: Mapping[str, str]) -> None:
        """Note the scenario as its file has it, and digests of what else the run depends on.

        Args:
            contents: Digests by what they are called.
        """
        file = self.path / "scenario.toml"
        self.identity.note_scenario(file.read_text(encoding="utf-8-sig"))
        self.identity.note_contents(contents)

    def save_toggle(self, scenario: Scenario, event: Mapping[str, Any]) -> None:
        """Write the changed scenario and a line about the toggle, or neither if one fails."""
        notes, identity = self.path / "toggles.jsonl", self.path / "identity.json"
        before = {file: file.read_bytes() for file in (notes, identity) if file.is_file()}
        write_atomically(notes, before.get(notes, b"") + (json.dumps(event) + "\n").encode())
        try:
            self.save_scenario(scenario)
        except BaseException:
            for file in (notes, identity):
                if file in before:
                    write_atomically(file, before[file])
                else:
                    file.unlink(missing_ok=True)
            raise

    def toggles(self) -> list[dict[str, Any]]:
        """The events in ``toggles.jsonl``, in the order in which they happened."""
        return read_lines(self.path / "toggles.jsonl")

    def append_round(self, row: RoundRow) -> None:
        """Append a line to ``rounds.jsonl``."""
        path = self.path / "rounds.jsonl"
        with named(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_strict(dataclasses.asdict(row))) + "\n")

    def append(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows to one of the CSV tables; a metric that is new to it becomes a column."""
        path, values = self.path / f"{table}.csv", [values_by_column(row) for row in rows]
        columns = header(path)
        more = [name for row in values[:1] for name in row if name not in columns]
        if more:
            _write_table(path, [*columns, *more], after=None)
            self._ledger_digest = GrowingDigest()
        with named(path), path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, [*columns, *more]).writerows(values)

    def note_spending(self, spent: Mapping[int, History]) -> None:
        """Append the privacy cost of a round to ``spending.jsonl``, and flush it to disk.

        The line is written before the replies are used: whatever happens to the round afterwards,
        the replies were sent, and their cost counts.

        Args:
            spent: New entries of each client's privacy history, by partition id.
        """
        self.journal.append(spent)

    def seal_ledger(self) -> None:
        """Note the content of ``ledger.csv``, so that its epsilons need not be computed again."""
        self.journal.seal_ledger(self._ledger_digest.of(self.path / "ledger.csv"))

    def spending(self) -> dict[int, History]:
        """The privacy history of every client, by partition id.

        Raises:
            BadInput: If ``spending.jsonl`` is lost, cut or damaged, since no epsilon would be
                right.
        """
        spent = [self.path / "ledger.csv", self.path / "rounds.jsonl"]
        if (
            not self.journal.path.is_file()
            and not self.journal.is_sealed
            and not any(file.is_file() and file.read_bytes().count(b"\n") > 1 for file in spent)
        ):
            return {}  # the run was killed while the folder was created
        try:
            histories = self.journal.read()
            self._check_histories(histories)
        except BadInput as error:
            raise BadInput(
                f"{error}; no epsilon would be right without it, and "
                f"{worst_recorded(self.path / 'ledger.csv')}"
            ) from error
        return histories

    def _check_histories(self, histories: Mapping[int, History]) -> None:
        """Refuse a journal that lacks what other files of the folder have."""
        file = self.path / "ledger.csv"
        try:
            listed, last = read_table(file, LedgerRow), len(self.rounds())
        except BadInput:
            return  # another sentence is about the table
        counts = listed.groupby("client").size()
        for client, rows in counts.items():
            if rows > len(histories.get(int(str(client)), ())):
                raise BadInput(
                    f"{self.journal.path} lacks entries of client {client} in {file.name}"
                )
        if any(entry.round > last for history in histories.values() for entry in history):
            raise BadInput(f"{self.journal.path} holds rounds that were never run")

    def ledger(self) -> Ledger:
        """The privacy account of every client, interrupted rounds included.

        Raises:
            BadInput: If the journal of privacy costs is lost or damaged.
        """
        privacy, histories = self.scenario.privacy, self.spending()
        accountant, delta = privacy.accountant, privacy.delta
        file = self.path / "ledger.csv"
        # Values of a table that was edited or cut are computed again.
        known = histories if self.journal.sealed_ledger == _digest(file) else {}
        recorded = recorded_epsilons(file, known, accountant=accountant, delta=delta)
        ceilings = recorded_ceilings(file, known)
        return RecordedLedger(
            histories, accountant, delta, privacy.labels_public, recorded, ceilings
        )

    def rounds(self) -> list[RoundRow]:
        """The rows of all rounds so far, round 0 included.

        Raises:
            BadInput: If the file is damaged.
        """
        file = self.path / "rounds.jsonl"
        return read_rounds(file) if file.is_file() else []

    def table(self, name: str) -> pd.DataFrame:
        """Read one of the CSV tables.

        Args:
            name: Name of the table: ``clients``, ``leakage`` or ``ledger``.

        Raises:
            BadInput: If the file is missing or damaged.
        """
        return read_table(self.path / f"{name}.csv", TABLES[name])

    def check_rows(self, *, until: int) -> None:
        """Refuse to go on with tables that lost rows, which would never come back.

        Args:
            until: Last round whose rows must be there.

        Raises:
            BadInput: If a table is damaged, or ``clients.csv`` lacks a round.
        """
        rows = {name: whole_rows(self.path / f"{name}.csv") for name in TABLES}
        lost = set(range(1, until + 1)) - {int(row["round"]) for row in rows["clients"]}
        if lost:
            raise BadInput(
                f"{self.path}/clients.csv lacks the rows of round {min(lost)}: put them back, or "
                "start a new run; what is left can be had with `fedlab export`"
            )

    def truncate(self, *, after: int) -> None:
        """Delete the rows of later rounds, and lines that a kill cut off.

        Args:
            after: Last round whose rows stay.
        """
        self.journal.repair()
        kept = [row for row in self.rounds() if row.round <= after]
        write_atomically(
            self.path / "rounds.jsonl",
            "".join(json.dumps(_strict(dataclasses.asdict(row))) + "\n" for row in kept).encode(),
        )
        for name, kind in TABLES.items():
            file = self.path / f"{name}.csv"
            columns = columns_of(kind)
            # Metrics that the scenario adds have columns after ours.
            more = [name for name in header(file) if name not in columns]
            _write_table(file, [*columns, *more], after=after)
        self._ledger_digest = GrowingDigest()
        self.seal_ledger()

    def size(self) -> int:
        """Size of all files of the run, in bytes."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"


def next_free(folder: Path, name: str) -> Path:
    """The first of ``folder/name``, ``folder/name-2``, ``folder/name-3``, ... that is free.

    What a file system would not take as a name of one folder is replaced in the name.
    """
    name = folder_name(name)
    path, number = folder / name, 2
    while path.exists():
        path, number = folder / f"{name}-{number}", number + 1
    return path


def _write_table(file: Path, columns: list[str], *, after: int | None) -> None:
    """Write a table anew with other columns, without rows after a round and half-written ones."""
    rows = whole_rows(file)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(row for row in rows if after is None or int(row["round"]) <= after)
    write_atomically(file, text.getvalue().encode())


def _is_leftover(path: Path) -> bool:
    """True for a file that a run left which was ended before it wrote its scenario."""
    return path.name in (LOCK, "identity.json") or path.suffix == ".partial"


def _digest(file: Path) -> str:
    return GrowingDigest().of(file)


def _strict(row: dict[str, Any]) -> dict[str, Any]:
    """Replace infinity and NaN by ``None``, since JSON has neither."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
