"""Tidy tables of a run or a comparison, with the right types, as CSV or Parquet."""

import dataclasses
import importlib.util
import io
import types
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pandas as pd

from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.plain_text import to_csv
from fedlab.results.folder import RunFolder
from fedlab.results.rows import LeakageRow, RoundRow
from fedlab.results.table_files import TABLES

Kind = Literal["csv", "parquet"]

_TYPES: dict[type, Any] = {int: "int64", float: "float64", bool: "bool"}


def tables_of_run(run: RunFolder, damaged: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """The tables ``rounds``, ``clients``, ``leakage`` and ``ledger`` of a run, one row per fact.

    Integer columns with missing values have the nullable type ``Int64``; other numbers are NaN
    where they are missing. The epsilon of an unprotected client is infinite.

    Args:
        run: The run.
        damaged: List to which sentences about tables are added that cannot be read, which are then
            left out.

    Raises:
        BadInput: If a table cannot be read, and ``damaged`` is not given.
    """
    readers: dict[str, tuple[type[Any], Callable[[], pd.DataFrame]]] = {
        "rounds": (RoundRow, lambda: _rounds(run)),
        **{name: (row, partial(run.table, name)) for name, row in TABLES.items()},
    }
    found = {}
    for name, (row, read) in readers.items():
        try:
            found[name] = _typed(read(), row)
        except BadInput as error:
            if damaged is None:
                raise
            damaged.append(str(error))
    return found


def _rounds(run: RunFolder) -> pd.DataFrame:
    columns = [field.name for field in dataclasses.fields(RoundRow)]
    return pd.DataFrame([dataclasses.asdict(row) for row in run.rounds()], columns=columns)


def tables_of_comparison(frame: pd.DataFrame, leakage: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables ``comparison`` and ``leakage`` of a comparison, with the right types.

    Args:
        frame: ``Comparison.frame``, one row for each client and round.
        leakage: ``Comparison.leakage``, one row for each attacked image.
    """
    return {"comparison": frame, "leakage": _typed(leakage, LeakageRow)}


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path, kind: Kind) -> list[Path]:
    """Write each table to a file that has its name.

    In CSV a missing value is an empty field, infinity is ``inf``, and truth values are ``True``
    and ``False``.

    Args:
        tables: Tables by file name without its ending.
        folder: Folder of the files; it is created.
        kind: File format; ``parquet`` keeps the types and needs pyarrow.

    Returns:
        Paths of the files.

    Raises:
        BadInput: If pyarrow is not installed, or the folder cannot be written to.
    """
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise BadInput(
            "Parquet needs pyarrow, which is not installed: "
            'pip install "fedlab-privacy[parquet]", or export to csv'
        )
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            files.append(folder / f"{name}.{kind}")
            write_atomically(files[-1], to_csv(table) if kind == "csv" else _parquet(table))
    except OSError as error:
        raise BadInput(f"{folder} cannot be written to: {error}") from error
    return files


def _parquet(table: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    return content.getvalue()


def _typed(table: pd.DataFrame, row: type[Any]) -> pd.DataFrame:
    """Convert each column that is a field of the row class to the field's type."""
    hints = get_type_hints(row)
    return table.assign(
        **{name: _cast(table[name], hints[name]) for name in table.columns if name in hints}
    )


def _cast(column: "pd.Series[Any]", hint: Any) -> "pd.Series[Any]":
    options = set(get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    (kind,) = options - {types.NoneType}
    if kind is str:
        return column.astype(object).fillna("").astype(str)
    if kind is int and types.NoneType in options:
        return column.astype("Int64")
    typed: pd.Series[Any] = column.astype(_TYPES[kind])
    return typed
