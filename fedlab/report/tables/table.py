"""Tables that are described once and shown in terminals, notebooks and pages alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        left_out: Number of rows that ``shortened`` left out in the middle.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    names: int = 1
    grid: bool = False
    left_out: int = 0

    @property
    def cells(self) -> list[list[Any]]:
        """Texts of all cells by row, and HTML where a value brings its own."""
        cells = [
            [
                value if hasattr(value, "__html__") else column.text(value)
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]
        if self.left_out:
            cells.insert((len(cells) + 1) // 2, ["⋮"] * len(self.columns))
        return cells

    @property
    def count(self) -> int:
        """Number of rows, with those that were left out."""
        return len(self.rows) + self.left_out

    def shortened(self, most: int, file: str) -> ReportTable:
        """Keep the first and the last rows; the note says how many there are, and where.

        Args:
            most: Largest number of rows, at least 2.
            file: File or files with all rows.
        """
        if len(self.rows) <= most:
            return self
        first, last = (most + 1) // 2, most // 2
        text = f"The first {first} and the last {last} of {len(self.rows):,} rows; all: {file}."
        return replace(
            self,
            rows=[*self.rows[:first], *self.rows[-last:]],
            note=f"{self.note} {text}".strip(),
            left_out=len(self.rows) - most,
        )

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
) -> ReportTable:
    """Show a data frame without its index.

    Args:
        frame: The data; column names are the headers, and numeric columns are right-aligned.
        title: Title above the table.
        note: Explanation below the table.
        digits: Decimals of numbers that are not whole.
        names: Number of leading columns that name the subject of a row.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in frame.dtypes]
    columns = [
        Column(str(name), "right" if number else "left", lambda value: plain(value, digits=digits))
        for name, number in zip(frame.columns, numeric, strict=True)
    ]
    return ReportTable(title, columns, list(frame.itertuples(index=False, name=None)), note, names)


def facts_table(facts: Mapping[str, object]) -> ReportTable:
    """Show names and values, one line each, without a header."""
    return ReportTable("", [Column(""), Column("")], list(facts.items()))
