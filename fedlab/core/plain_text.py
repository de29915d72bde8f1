"""Foreign text made harmless for terminals, pages and spreadsheets."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 300
"""Default number of characters that are kept of a foreign text."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which spreadsheets recognise a formula (OWASP, "CSV Injection")."""


def plain_text(text: object, *, most: int = LONGEST) -> str:
    r"""Return a foreign text as one line without characters that control a terminal or page.

    Args:
        text: Object whose text somebody else chose.
        most: Number of characters to keep, at least 1.

    Returns:
        The text with single spaces, in which every control, format, surrogate or unassigned
        character is replaced by a question mark.

    Example:
        >>> plain_text("no\x1b[31m memory\n left")
        'no?[31m memory left'
    """
    # Cut before anything else: the text may have millions of characters.
    shown = " ".join(str(text)[: 4 * most].split())
    kept = "".join("?" if unicodedata.category(each)[0] == "C" else each for each in shown)
    return kept if len(kept) <= most else kept[: most - 1] + "…"


def csv_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file that no spreadsheet takes for a formula.

    Args:
        value: Value of the cell. A text that starts like a formula gets a leading apostrophe,
            which spreadsheets do not show; anything else is returned as it is.

    Example:
        >>> csv_cell("=1+1"), csv_cell(-1.5)
        ("'=1+1", -1.5)
    """
    if not isinstance(value, str):
        return value
    kept = "".join(
        "?" if each != "\n" and unicodedata.category(each) in ("Cc", "Cs") else each
        for each in value
    )
    return f"'{kept}" if value.startswith(FORMULA) else kept


def to_csv(table: pd.DataFrame) -> bytes:
    """Write a table as CSV, with the texts of all cells as ``csv_cell`` returns them."""
    texts = table.select_dtypes(include=["object", "string"]).columns
    safe = {name: table[name].map(csv_cell) for name in texts}
    return table.assign(**safe).to_csv(index=False).encode()
