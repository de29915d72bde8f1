"""Parts of a card, which HTML and Markdown lay out alike."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedlab.report.page.page_content import Missing
from fedlab.report.tables.table import ReportTable

MOST_LINES = 12
"""Largest number of lines of a table on a card; a comparison has as many tables of privacy at most
as lines."""

_VERSIONS = ("fedlab-privacy", "Python", "torch", "flwr", "system", "GPU")
"""Rows of the table of the environment that the card states."""


@dataclass(frozen=True)
class Section:
    """A part of a card.

    Attributes:
        title: Title of the part.
        sentences: Paragraphs.
        tables: Tables below them.
        points: Items of a list.
        command: Command line; empty for none.
    """

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    points: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True)
class Card:
    """A card.

    Attributes:
        name: Name of what it is about.
        kind: Kind of that, such as ``Run``.
        facts: Sizes and names below the title.
        sections: Parts in reading order.
        missing: What is left out, since files are damaged.
    """

    name: str
    kind: str
    facts: Sequence[str]
    sections: Sequence[Section]
    missing: Missing


def items_of(html: Markup) -> list[str]:
    """The items of a list in HTML as plain texts."""
    items = (str(Markup(each).unescape()) for each in re.findall(r"<li>(.*?)</li>", html, re.S))
    return [" ".join(each.split()) for each in items]


def versions_in(environment: ReportTable) -> str:
    """The versions that a card states, in words."""
    facts = ((str(name), str(value)) for name, value in environment.rows)
    return ", ".join(f"{name} {value}" for name, value in facts if name in _VERSIONS)
