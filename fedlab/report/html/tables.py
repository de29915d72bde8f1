"""Tables as HTML, for notebooks and for the page of a run; everything in them is escaped.

Nothing here sets a colour of text, so a table reads as well in a dark notebook as in a light one.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import pandas as pd
from markupsafe import Markup, escape
from rich.table import Table

from fedlab.report.tables.numbers import plain


class HasTable(Protocol):
    """An object that has a table for a terminal."""

    def table(self) -> Table:
        """Return the table."""


_LINE = "border-bottom:1px solid rgba(128,128,128,.35)"
_CELL = "padding:.3em .6em;vertical-align:top;max-width:30em;"
_TABLE = "border-collapse:collapse;color:inherit"


def html_table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: str = "",
    note: str = "",
    right: Collection[int] = (),
    names: int = 1,
) -> Markup:
    """A table that scrolls by itself where it is too wide for its place.

    Args:
        header: A name for each column; a line break in a text becomes one in the table.
        rows: As many cells each. Whatever has ``__html__`` is taken as it is, all else is escaped.
        caption: Above the table; readers who do not see it hear it first.
        note: Below the table, such as what its words mean.
        right: Columns of numbers, counted from 0, set flush right.
        names: How many columns at the left name what the row is about.
    """
    lines = [list(row) for row in rows]
    parts = [
        _caption(caption),
        Markup("<thead><tr>{}</tr></thead>").format(
            _joined(_cell(name, place in right, "col") for place, name in enumerate(header))
        ),
        Markup("<tbody>{}</tbody>").format(
            _joined(
                Markup("<tr>{}</tr>").format(
                    _joined(
                        _cell(cell, place in right, "row" if place < names else "")
                        for place, cell in enumerate(line)
                    )
                )
                for line in lines
            )
        ),
    ]
    return Markup(
        '<div class="scroll" role="region" tabindex="0" aria-label="{}" style="overflow-x:auto">'
        '<table style="{};width:max-content">{}</table></div>{}'
    ).format(
        caption or "table",
        _TABLE,
        _joined(parts),
        Markup('<p class="note"><small>{}</small></p>').format(_broken(note)) if note else "",
    )


def rich_table(table: Table, *, caption: str | None = None) -> Markup:
    """A table made for a terminal, with its title, its caption as a note, and its alignment.

    Args:
        table: Of texts.
        caption: In place of its title.
    """
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return html_table(
        [str(column.header) for column in table.columns],
        list(zip(*columns, strict=True)),
        caption=str(table.title or "") if caption is None else caption,
        note=str(table.caption or ""),
        right=[place for place, each in enumerate(table.columns) if each.justify == "right"],
    )


def shown_table(thing: HasTable) -> str:
    """HTML of an object whose ``table`` method returns a table for a terminal."""
    return str(rich_table(thing.table()))


def frame_table(
    frame: pd.DataFrame,
    *,
    caption: str = "",
    note: str = "",
    digits: int = 2,
    most: int | None = None,
    names: int = 1,
) -> Markup:
    """A data frame without its index; missing numbers as ``-``, infinite ones as ``∞``.

    Args:
        frame: What is shown; its columns name themselves.
        caption: Above it.
        note: Below it.
        digits: Decimals of numbers that are not whole.
        most: Rows to show; the note says how many there are more.
        names: How many columns at the left name what the row is about.
    """
    shown = frame if most is None else frame.head(most)
    if len(shown) < len(frame):
        note = f"{note} The first {len(shown):,} of {len(frame):,} rows.".strip()
    numbers = [
        place
        for place, kind in enumerate(frame.dtypes)
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
    ]
    return html_table(
        [str(name) for name in frame.columns],
        [
            [plain(value, digits=digits) for value in line]
            for line in shown.itertuples(index=False, name=None)
        ],
        caption=caption,
        note=note,
        right=numbers,
        names=names,
    )


def facts_table(facts: Iterable[tuple[str, object]], *, caption: str = "") -> Markup:
    """Names and what they are, a line each, without a header."""
    lines = [
        Markup("<tr>{}{}</tr>").format(_cell(name, False, "row"), _cell(value, False, ""))
        for name, value in facts
    ]
    return Markup('<table style="{}">{}<tbody>{}</tbody></table>').format(
        _TABLE, _caption(caption), _joined(lines)
    )


def _caption(text: str) -> Markup:
    style = "text-align:left;white-space:nowrap;padding:.3em .6em"
    return Markup('<caption style="{}">{}</caption>').format(style, text) if text else Markup()


def _cell(value: object, right: bool, scope: str) -> Markup:
    align = "right" if right else "left"
    # Notebooks set every cell flush right and names in bold unless told otherwise.
    style = f"{_CELL}{_LINE};text-align:{align}"
    if right:
        style += ";white-space:nowrap;font-variant-numeric:tabular-nums"
    if scope == "row":
        style += ";font-weight:normal"
    kind = "th" if scope else "td"
    told = Markup(' scope="{}"').format(scope) if scope else ""
    return Markup('<{}{} style="{}">{}</{}>').format(
        Markup(kind), told, style, _broken(value), Markup(kind)
    )


def _broken(value: object) -> Markup:
    """Escaped, with line breaks kept."""
    if hasattr(value, "__html__"):
        return escape(value)
    return Markup("<br>").join(str(value).strip("\n").split("\n"))


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup().join(parts)
