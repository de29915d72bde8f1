"""Writing a page: one HTML file that contains its style and its figures."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.plugins import looking
from fedlab.metrics.verdict import CONSISTENT, MARGIN, SUCCEEDS
from fedlab.report.figures.colours import defense_colour
from fedlab.report.page.embedded_figures import embed
from fedlab.report.page.environment import environment_table
from fedlab.report.page.local_paths import files_needed, portable_toml, source_of
from fedlab.report.page.output import check_page, write_html
from fedlab.report.page.run_page import run_page
from fedlab.report.tables.schedule import schedule_grid
from fedlab.report.templates import render
from fedlab.results.folder import RunFolder
from fedlab.scenario.reproducibility import repeatability

if TYPE_CHECKING:
    from fedlab.comparison import Comparison
    from fedlab.integrations.capture_folder import CaptureFolder

PAGE = "report.html"
"""Default file name of a page, in the folder of its run or comparison."""


def write_page(subject: "RunFolder | Comparison", path: Path | None = None) -> Path:
    """Write one HTML page about a run or a comparison.

    The page loads nothing from a network: it contains figures and style, and its content security
    policy forbids everything else.

    Args:
        subject: The run or the comparison.
        path: The file to write, whose missing folders are made. ``report.html`` in the folder of
            the run or the comparison unless given.

    Returns:
        The file.

    Raises:
        BadInput: If nothing has finished yet, or the file cannot be written.
        RunFailed: If files of the run are damaged; the page is written without what they hold.
    """
    with looking("run"):
        return _written(subject, path)


def _written(subject: "RunFolder | Comparison", path: Path | None) -> Path:
    if path is None:
        path = (subject.path if isinstance(subject, RunFolder) else subject.folder) / PAGE
    check_page(path)
    if isinstance(subject, RunFolder):
        content = run_page(subject)
    else:
        # A page about a run need not load what runs and draws comparisons.
        from fedlab.report.page.comparison_page import comparison_page

        content = comparison_page(subject)
    page = render(
        "page.html",
        page=content,
        figures=embed(content.figures, content.missing),
        viewer=content.missing.unless_damaged(content.viewer),
        schedule=schedule_grid(content.scenario),
        colour=defense_colour,
        environment=environment_table(content.first, content.arms),
        toml=portable_toml(content.file),
        files_needed=files_needed(content.file),
        folder=shlex.quote(content.folder.resolve().name),
        source=source_of(content.scenario),
        repeatability=repeatability(content.arms),
        margin=MARGIN,
        consistent=CONSISTENT,
        succeeds=SUCCEEDS,
    )
    write_html(page, path)
    if lost := content.missing.sentences:
        raise RunFailed(f"{path} lacks what could not be read: {'; '.join(lost)}")
    return path


def open_subject(folder: Path) -> "RunFolder | Comparison | CaptureFolder":
    """Open the run, the comparison or the captures of another federation in a folder.

    Raises:
        BadInput: If the folder contains none of them.
    """
    run = RunFolder(folder)
    if run.holds_a_run:
        return run
    from fedlab.comparison import Comparison, is_comparison
    from fedlab.comparison.comparison import FACTS

    if is_comparison(folder):
        return Comparison.open(folder)
    from fedlab.integrations.capture_folder import CaptureFolder

    captures = CaptureFolder(folder)
    if not captures.replies:
        raise BadInput(
            f"{folder} contains neither a run nor a comparison, nor captures of fedlab.observe: it "
            f"has no scenario.toml, no {FACTS} and no reply-*.safetensors"
        )
    return captures
