"""What a run and a comparison state on their pages; ``templates/page.html`` lays it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pandas as pd

from fedlab.comparison.sweep import COLUMN
from fedlab.core.errors import BadInput
from fedlab.report.figures.sheet import Picture
from fedlab.report.page.viewer import Viewer
from fedlab.report.tables.table import ReportTable, frame_table
from fedlab.report.verdicts.run import Verdict
from fedlab.results.attacks import scored_images
from fedlab.results.rows import LeakageRow, columns_of
from fedlab.scenario.scenario import Scenario

T = TypeVar("T")

MOST_ROWS = 500
"""Largest number of rows of a table on a page; the files of the run have all rows."""

FoldedTable = tuple[str, ReportTable, bool | None]
"""A title, the table below it, and whether it starts open; None leaves that to its length."""

_LEAKAGE = [
    "round", "client", "defenses", "attack", "image", "psnr", "chance_psnr", "ssim",
    "identification", "label_correct", "threat", "setting", "power", "verdict", "skipped",
]  # fmt: skip
"""Columns of ``leakage.csv`` on the page."""

_HEADERS = {
    "defenses": "defense",
    "update_norm": "update norm",
    "psnr": "PSNR dB",
    "chance_psnr": "chance dB",
    "ssim": "SSIM",
    "identification": "identified",
    "label_correct": "label correct",
    "threat": "server",
}
"""Headers of columns of the CSV files that are renamed on the page."""


@dataclass
class Missing:
    """Sentences about damaged files, which cost a part of a page each.

    Attributes:
        sentences: The sentences, each once.
    """

    sentences: list[str] = field(default_factory=list)

    def unless_damaged(self, make: Callable[[], T]) -> T | None:
        """Make a part of a page; ``None`` if a file that it needs is damaged, which is noted."""
        try:
            return make()
        except BadInput as error:
            if str(error) not in self.sentences:
                self.sentences.append(str(error))
            return None


@dataclass(frozen=True)
class PageContent:
    """Content of a page.

    Attributes:
        kind: ``Run`` or ``Comparison``.
        folder: Folder of the run or the comparison.
        first: Folder of a run with ``environment.json``.
        facts: Sizes and names below the title.
        question: The question that the experiment answers.
        verdicts: Verdicts on each threat.
        threat_model: Terms, each with sentences about it.
        figures: Functions that draw the figures, by their names in ``page.html``.
        tables: Tables of results.
        ledger: Tables of the privacy ledger.
        scenario: The experiment, or what all runs of a comparison share.
        file: The scenario that the command below reads.
        again: Command line that repeats the experiment.
        arms: Scenarios of all runs.
        viewer: Function that gathers the images to step through; ``None`` if there are none.
        seeds: Number of seeds of a comparison; ``None`` for a run.
        compared: Labels of the defenses of which each run of a comparison has one, in all rounds.
        missing: What is left out of the page, since its files are damaged.
    """

    kind: str
    folder: Path
    first: Path
    facts: Sequence[str]
    question: str
    verdicts: Sequence[Verdict]
    threat_model: Sequence[tuple[str, str]]
    figures: Mapping[str, Callable[[], Picture]]
    tables: Sequence[FoldedTable]
    ledger: Sequence[FoldedTable]
    scenario: Scenario
    file: Scenario
    again: str
    arms: Sequence[Scenario]
    viewer: Callable[[], Viewer | None]
    seeds: int | None = None
    compared: Sequence[str] = ()
    missing: Missing = field(default_factory=Missing)


def csv_table(
    frame: pd.DataFrame,
    title: str,
    note: str = "",
    *,
    file: str,
    names: int = 2,
    open: bool | None = None,
) -> FoldedTable:
    """Show a table of a file under the headers of the page, shortened if it is long."""
    table = frame_table(frame.rename(columns=_HEADERS), title=title, note=note, names=names)
    return title, table.shortened(MOST_ROWS, file), open


def leakage_table(leakage: pd.DataFrame, *, arm: tuple[str, ...] = ()) -> list[FoldedTable]:
    """Show the scores of every reconstructed image; no table if there is none.

    Args:
        leakage: The leakage table of a run or of a comparison.
        arm: Columns in front that identify a run of a comparison.
    """
    note = (
        "From leakage.csv, which has more columns. PSNR: aligned like chance where "
        "that was measured. Identified: share of the pool that is further from the reconstruction "
        "than the true image is. Skipped: why an image was not attacked."
    )
    if leakage.empty:
        return []
    known = {"attack", *columns_of(LeakageRow), "defense", "rule", "grid", "seed"}
    foreign = [n for n in leakage if n not in known and not str(n).startswith(COLUMN)]
    rows = scored_images(leakage)[[*arm, *_LEAKAGE, *foreign]].replace("", None)
    rows = rows.drop(columns=[name for name in ("power", "skipped") if rows[name].isna().all()])
    title = "Reconstructions, image by image"
    return [csv_table(rows, title, note, file="leakage.csv", names=len(arm) + 2)]
