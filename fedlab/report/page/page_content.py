"""Parts of the content that ``templates/page.html`` lays out."""

from typing import NamedTuple

from fedlab.report.tables.table import ReportTable

LONG = 12
"""Number of rows above which a table starts closed."""


class FoldedTable(NamedTuple):
    """A table below a line that opens and closes it."""

    title: str
    table: ReportTable
    open: bool


class Command(NamedTuple):
    """A command line, and what it does."""

    purpose: str
    text: str


def folded(title: str, table: ReportTable, *, open: bool | None = None) -> FoldedTable:
    """A table below a line with the number of its rows; open up to ``LONG`` rows unless given."""
    rows = len(table.rows)
    return FoldedTable(f"{title} ({rows} rows)", table, rows <= LONG if open is None else open)
