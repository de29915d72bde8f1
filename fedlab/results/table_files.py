"""Reading the tables of a run folder, which may be damaged: every mistake costs one sentence."""

import csv
import dataclasses
import io
import json
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pandas as pd

from fedlab.core.errors import BadInput
from fedlab.privacy.ledger import LedgerRow
from fedlab.results.rows import ClientRow, LeakageRow, RoundRow, columns_of

TABLES = {"clients": ClientRow, "leakage": LeakageRow, "ledger": LedgerRow}
"""Row class of each CSV table, by file name without its ending."""

ADDED = frozenset({"ceiling_10", "ceiling_100", "reason"})
"""Columns without a default that tables of earlier versions lack."""

LARGEST = 2**31
"""Value that no round, client or count reaches."""


def read_table(file: Path, kind: type[Any]) -> pd.DataFrame:
    """Read a CSV table, and check its columns and their types.

    Args:
        file: The file.
        kind: Class of its rows.

    Raises:
        BadInput: If the file is missing or damaged.
    """
    hints = get_type_hints(kind)
    texts = {name: object for name in columns_of(kind) if _kind(hints[name]) is str}
    try:
        frame = pd.read_csv(
            io.StringIO(_text(file)),
            keep_default_na=False,
            na_values=["", "nan"],
            dtype=texts,
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise _damaged(file, str(error)) from error
    needed = {
        each.name
        for each in dataclasses.fields(kind)
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }
    if missing := sorted(needed - ADDED - set(frame.columns)):
        raise _damaged(file, f"it has no column {missing[0]}")
    for name in frame.columns:
        if name in hints:
            _check_column(file, frame[name], hints[name])
    return frame


def read_rounds(file: Path) -> list[RoundRow]:
    """Read ``rounds.jsonl``; a line without an end was cut off by a kill and is left out.

    Raises:
        BadInput: If a line is damaged or missing.
    """
    rows: list[RoundRow] = []
    for number, line in enumerate(_text(file).split("\n")[:-1]):
        try:
            row: RoundRow = checked_row(RoundRow, json.loads(line))
            if row.round != number:
                raise ValueError(f"round {number} is missing")
            rows.append(row)
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged(file, f"line {number + 1}: {error}") from error
    return rows


def checked_row(kind: type[Any], values: Any) -> Any:
    """Make a row from a JSON table, and check the types of its values.

    Args:
        kind: Class of the row.
        values: The table; ``null`` stands for infinity or NaN as well.

    Raises:
        TypeError: If a value is missing, unknown or of another type.
        ValueError: If a number is out of range.
    """
    row, hints = kind(**values), get_type_hints(kind)
    for name, value in vars(row).items():
        expected = _kind(hints[name])
        known = (int, float) if expected is float else (get_origin(expected) or expected,)
        if value is not None and type(value) not in known:
            raise TypeError(f"{name} is {str(value)[:40]!r}")
        if expected is int and not 0 <= (value or 0) < LARGEST:
            raise ValueError(f"{name} is {str(value)[:40]!r}")
    return row


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON table in a line; a file that does not exist has none.

    Raises:
        BadInput: If a line is damaged.
    """
    rows = []
    for number, line in enumerate(_text(file).splitlines() if file.is_file() else ()):
        try:
            row = json.loads(line) if line else {}
            if not isinstance(row, dict):
                raise TypeError("it is no table")
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged(file, f"line {number + 1}: {error}") from error
        rows += [row] if row else []
    return rows


def header(file: Path) -> list[str]:
    """Columns of a CSV file; none if it does not exist.

    Raises:
        BadInput: If the file cannot be read.
    """
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            return next(csv.reader(opened), [])
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(file, str(error)) from error


def whole_rows(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as texts by column, without rows that a kill cut off.

    Raises:
        BadInput: If the file cannot be read.
    """
    columns = header(file)
    if not columns:
        return []
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = [row for row in csv.reader(opened) if len(row) == len(columns)][1:]
        for row in rows:
            int(row[columns.index("round")])
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(file, str(error)) from error
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _damaged(file, "it is missing") from error
    except (OSError, ValueError) as error:
        raise _damaged(file, str(error)) from error


def _check_column(file: Path, column: "pd.Series[Any]", hint: Any) -> None:
    kind = _kind(hint)
    if kind is str:
        return
    if kind is bool:
        wrong = column[column.notna() & ~column.astype(str).isin({"True", "False"})]
    else:
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = column[numbers.isna() & column.notna()]
        if kind is int and wrong.empty:
            wrong = column[(numbers % 1 != 0) & column.notna() | (numbers.abs() >= LARGEST)]
    if column.name in ("round", "client") and wrong.empty:
        wrong = column[column.isna() | (pd.to_numeric(column) < 0)]
    if not wrong.empty:
        raise _damaged(
            file, f"line {wrong.index[0] + 2}: {column.name} is {str(wrong.iloc[0])[:40]!r}"
        )


def _kind(hint: Any) -> type:
    """The type of a field's values, of which some may be missing."""
    options = set(get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    (kind,) = options - {types.NoneType}
    found: type = kind
    return found


def _damaged(file: Path, reason: str) -> BadInput:
    return BadInput(f"{file} is damaged: {' '.join(reason.split())[:200]}")
