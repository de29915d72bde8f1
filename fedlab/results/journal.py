"""The journal of privacy costs: one line a round, chained by hashes so that no line gets lost.

Each line holds its number, what was spent, and the SHA-256 of the line before and this one. In a
deployment another line comes first, when the clients are asked: what the round is expected to cost.
It counts until they answer. A second file holds number and hash of the last line. A journal that
was cut, emptied or edited disagrees with it.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.files import named, write_atomically
from fedlab.privacy.history_text import from_json, to_json
from fedlab.privacy.release import History
from fedlab.privacy.unanswered import Unanswered, continued

_LINE = re.compile(r'\{"entry":(\d{1,9}),"(asked|spent)":(.*),"chain":"([0-9a-f]{64})"\}')


class SpendingJournal:
    """What every client has spent, in a file that only grows.

    Args:
        path: The file, ``spending.jsonl`` of a run folder; its last hash is in ``spending.head``.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._head = path, path.with_suffix(".head")
        self._ledger = ""
        self._end: tuple[int, str] | None = None
        """Number and hash of the last line, once it was read or written."""
        self._seen = 0
        """Size of the file in bytes, as it was then."""
        self._unsettled: dict[int, History] = {}
        """Costs of questions without an answer, when the file was read."""

    @property
    def is_sealed(self) -> bool:
        """True if the journal has its last hash beside it, as all but those of old versions."""
        return self._head.is_file()

    @property
    def sealed_ledger(self) -> str:
        """SHA-256 of ``ledger.csv`` as the run wrote it; empty if it is not known."""
        try:
            return str(json.loads(self._head.read_text(encoding="utf-8")).get("ledger", ""))
        except (OSError, ValueError, AttributeError, RecursionError):
            return ""

    def seal_ledger(self, digest: str) -> None:
        """Write the SHA-256 of ``ledger.csv`` beside the journal."""
        if self._end is None:
            self.read()
        self._ledger = digest
        self._seal(*(self._end or (0, "")))

    def begin(self) -> None:
        """Write an empty journal in place of an earlier one."""
        write_atomically(self.path, b"")
        self._seal(0, "")
        self._end, self._seen = (0, ""), 0

    def append(self, spent: Mapping[int, History]) -> None:
        """Append the privacy cost of a round, and flush it to disk.

        Args:
            spent: New entries of each client's privacy history, by partition id.

        Raises:
            BadInput: If the journal is damaged.
            RunFailed: If something else has written to it.
        """
        self._append("spent", spent)

    def ask(self, costs: Mapping[int, History]) -> None:
        """Append what the tasks of a round will cost; this counts until ``append`` is called.

        Args:
            costs: Expected entries of each client, by partition id.

        Raises:
            BadInput: If the journal is damaged.
            RunFailed: If something else has written to it.
        """
        self._append("asked", costs)

    def settle(self) -> None:
        """Count what was asked before a kill as spent: the new run cannot receive the answers.

        Raises:
            BadInput: If the journal is damaged.
            RunFailed: If something else has written to the journal since it was read.
        """
        if self._unsettled:
            self._append("spent", self._unsettled)
            self._unsettled = {}

    def _append(self, kind: str, entries_of: Mapping[int, History]) -> None:
        self.check_unchanged()
        if self._end is None:
            self.read()
        count, chain = self._end or (0, "")
        parts = (f'"{client}":{to_json(entries)}' for client, entries in entries_of.items())
        body = "{" + ",".join(parts) + "}"
        chain = _chained(chain, kind, body)
        line = f'{{"entry":{count + 1},"{kind}":{body},"chain":"{chain}"}}\n'.encode()
        with named(self.path), self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        # A kill before the next line leaves a journal that is one whole line longer than its head.
        self._seal(count + 1, chain)
        self._end, self._seen = (count + 1, chain), self._seen + len(line)

    def check_unchanged(self) -> None:
        """Refuse to go on if something else has written to the journal since it was read.

        Raises:
            RunFailed: If it has.
        """
        if self._end is not None and self._size() != self._seen:
            raise RunFailed(
                f"something else has written to {self.path} since this run was opened: open it "
                "again with `fedlab resume`"
            )

    def read(self) -> dict[int, History]:
        """The privacy history of every client, by partition id, with costs of unanswered questions.

        Raises:
            BadInput: If the journal is damaged, cut or emptied, since no epsilon would be right.
        """
        histories: dict[int, History] = {}
        unanswered = Unanswered()
        count, chain, sealed, chained = 0, "", self._sealed(), False
        try:
            content = self.path.read_bytes()
            for line in content.split(b"\n")[:-1]:  # a kill may have cut the rest off
                body, kind = line.decode(), "spent"
                if found := _LINE.fullmatch(body):
                    kind, body, chained = found[2], found[3], True
                elif '"chain"' in body:
                    raise ValueError(f"line {count + 1} was changed")
                chain = _chained(chain, kind, body)
                count += 1
                if found and (int(found[1]), found[4]) != (count, chain):
                    raise ValueError(f"line {count} or one before it was changed")
                if sealed and sealed[0] == count and sealed[1] != chain:
                    raise ValueError(f"line {count} or one before it was changed")
                entries_of = {
                    int(client): from_json(json.dumps(entries))
                    for client, entries in json.loads(body).items()
                }
                if kind == "asked":
                    unanswered.ask(entries_of)
                else:
                    unanswered.answer(entries_of)
                    for client, entries in entries_of.items():
                        histories[client] = (*histories.get(client, ()), *entries)
            if sealed and count < sealed[0]:
                raise ValueError(f"{count} of {sealed[0]} entries are left")
            if sealed is None and chained:
                raise ValueError(f"{self._head.name} is missing, which holds its length")
        except (
            OSError,
            ValueError,
            AttributeError,
            TypeError,
            LookupError,
            RecursionError,
        ) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BadInput(f"{self.path} was damaged or cut: {reason}") from error
        self._end, self._seen, self._ledger = (count, chain), len(content), self.sealed_ledger
        self._unsettled = unanswered.beyond(histories)
        return continued(histories, self._unsettled)

    def repair(self) -> None:
        """Delete a line that a kill cut off."""
        if self.path.is_file():
            whole, _, _ = self.path.read_bytes().rpartition(b"\n")
            write_atomically(self.path, whole + b"\n" if whole else b"")
            self._seen = self._size()

    def _seal(self, count: int, chain: str) -> None:
        facts = {"entries": count, "chain": chain, "ledger": self._ledger}
        write_atomically(self._head, json.dumps(facts).encode())

    def _sealed(self) -> tuple[int, str] | None:
        """Number and hash of the last line; ``None`` for a run of an earlier version."""
        try:
            facts = json.loads(self._head.read_text(encoding="utf-8"))
            return int(facts["entries"]), str(facts["chain"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadInput(
                f"{self._head} was damaged, and without it nobody knows whether {self.path.name} "
                "is complete"
            ) from error

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0


def _chained(before: str, kind: str, body: str) -> str:
    mark = "" if kind == "spent" else f"{kind} "  # so that journals of earlier versions are read
    return hashlib.sha256(f"{before}\n{mark}{body}".encode()).hexdigest()
