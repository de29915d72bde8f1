"""The content of a page, which ``templates/page.html`` lays out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fedlab.report.page.embedded_figures import EmbeddedFigure
from fedlab.report.tables.table import ReportTable
from fedlab.report.verdicts.run import Verdict

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


@dataclass(frozen=True)
class PageContent:
    """The content of a page in reading order.

    Attributes:
        kind: ``Run`` or ``Comparison``.
        name: Name of the scenario.
        facts: A few words each, below the title.
        question: The research question of the experiment.
        verdicts: Verdict on each threat.
        threat_model: Pairs of a term and a sentence.
        schedule: Roles and defenses by round and client.
        figures: Figures that have something to show.
        tables: Tables of results.
        ledger: Tables of the privacy ledger.
        environment: Versions and hardware by name.
        scenario: The scenario as TOML.
        commands: Commands that reproduce the results.
        interpretation: What the results mean and do not mean, a few sentences each.
    """

    kind: str
    name: str
    facts: Sequence[str]
    question: str
    verdicts: Sequence[Verdict]
    threat_model: Sequence[tuple[str, str]]
    schedule: ReportTable
    figures: Sequence[EmbeddedFigure]
    tables: Sequence[FoldedTable]
    ledger: Sequence[FoldedTable]
    environment: ReportTable
    scenario: str
    commands: Sequence[Command]
    interpretation: Sequence[str]


def folded(title: str, table: ReportTable, *, open: bool | None = None) -> FoldedTable:
    """A table with the number of its rows in the line above it.

    Args:
        title: Text of the line.
        table: The table.
        open: Whether the table starts open; up to ``LONG`` rows unless given.
    """
    rows = len(table.rows)
    return FoldedTable(f"{title} ({rows} rows)", table, rows <= LONG if open is None else open)
