"""Tables that are described once and shown in terminals, notebooks and pages alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from fedlab.report.tables.numbers import plain
from fedlab.report.templates import render

if TYPE_CHECKING:  # `fedlab show` prints a table and needs no pandas
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column of a report table.

    Attributes:
        header: Text at the top; a line break in it is kept.
        align: Alignment of header and cells; numbers are right-aligned.
        text: Function that turns a value into the text of its cell.
        terminal: False for a column that terminals have no room for.
    """

    header: str
    align: Literal["left", "center", "right"] = "left"
    text: Callable[[Any], str] = plain
    terminal: bool = True


@dataclass(frozen=True)
class ReportTable:
    """A table that rich prints in a terminal and Jinja renders as HTML.

    Attributes:
        title: Title above the table.
        columns: Description of each column.
        rows: One value for each column. In HTML, a value with ``__html__`` is kept as it is.
        note: Explanation of the columns below the table.
        names: Number of leading columns that name the subject of a row.
        grid: True for lines between all cells in a terminal.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    names: int = 1
    grid: bool = False

    @property
    def cells(self) -> list[list[Any]]:
        """Texts of all cells by row, and HTML where a value brings its own."""
        return [
            [
                value if hasattr(value, "__html__") else column.text(value)
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]

    def __rich__(self) -> Table:
        table = Table(
            title=self.title,
            caption=Text(self.note, style="table.caption"),
            box=box.HEAVY_HEAD if self.grid else box.SIMPLE_HEAD,
            padding=(0, 1) if self.grid else (0, 1, 0, 0),
            pad_edge=self.grid,
            show_lines=self.grid,
        )
        shown = [place for place, column in enumerate(self.columns) if column.terminal]
        for place in shown:
            column = self.columns[place]
            name = place < self.names
            table.add_column(
                Text(column.header, style="table.header"),
                justify=column.align,
                overflow="fold" if name else "ellipsis",
                no_wrap=column.align == "right" and not name,
            )
        for row in self.cells:
            table.add_row(*(Text(str(row[place])) for place in shown))
        return table

    def __html__(self) -> str:
        return render("table.html", table=self)

    def _repr_html_(self) -> str:
        return self.__html__()


def frame_table(
    frame: pd.DataFrame,
    *,
    title: str = "",
    note: str = "",
    digits: int = 2,
    names: int = 1,
    most: int | None = None,
) -> ReportTable:
    """Show a data frame without its index.

    Args:
        frame: The data; column names are the headers, and numeric columns are right-aligned.
        title: Title above the table.
        note: Explanation below the table.
        digits: Decimals of numbers that are not whole.
        names: Number of leading columns that name the subject of a row.
        most: Largest number of rows; the note states how many rows there are in all. All rows
            unless given.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    shown = frame if most is None else frame.head(most)
    if len(shown) < len(frame):
        note = f"{note} The first {len(shown):,} of {len(frame):,} rows.".strip()
    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in frame.dtypes]
    columns = [
        Column(str(name), "right" if number else "left", lambda value: plain(value, digits=digits))
        for name, number in zip(frame.columns, numeric, strict=True)
    ]
    return ReportTable(title, columns, list(shown.itertuples(index=False, name=None)), note, names)


def facts_table(facts: Mapping[str, object]) -> ReportTable:
    """Show names and values, one line each, without a header."""
    return ReportTable("", [Column(""), Column("")], list(facts.items()))
