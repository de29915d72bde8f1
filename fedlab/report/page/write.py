"""Writing the page: one file, with its style and its pictures in it."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedlab.comparison import Comparison, is_comparison
from fedlab.comparison.comparison import FACTS
from fedlab.core.errors import BadInput
from fedlab.core.files import check_folder, write_atomically
from fedlab.report.page.content import Content
from fedlab.report.page.of_comparison import page_of_comparison
from fedlab.report.page.of_run import page_of_run
from fedlab.results.folder import RunFolder

PAGE = "report.html"
"""What the page is called in the folder that it is about, unless told otherwise."""


def write_page(subject: RunFolder | Comparison, path: Path | None = None) -> Path:
    """Write one HTML page about a run or a comparison.

    It asks nothing of any network: pictures and style are in it, and its own policy forbids the
    rest.

    Args:
        subject: What it is about.
        path: The file to write; its folder is made. ``report.html`` in the subject's folder unless
            given.

    Returns:
        The file.

    Raises:
        BadInput: If nothing has finished yet, or the file cannot be written.
    """
    if path is None:
        path = (subject.path if isinstance(subject, RunFolder) else subject.folder) / PAGE
    check_folder(path.parent)
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name an HTML file")
    content = (
        page_of_run(subject) if isinstance(subject, RunFolder) else page_of_comparison(subject)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, html_of(content).encode())
    return path


def html_of(content: Content) -> str:
    """A page as text."""
    templates = Environment(
        loader=PackageLoader("fedlab.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html").render(page=content)


def open_subject(folder: Path) -> RunFolder | Comparison:
    """The run or the comparison that a folder holds.

    Raises:
        BadInput: If it holds neither.
    """
    if is_comparison(folder):
        return Comparison.open(folder)
    if not RunFolder(folder).holds_a_run:
        raise BadInput(
            f"{folder} holds neither a run nor a comparison: there is no scenario.toml and no "
            f"{FACTS} in it"
        )
    return RunFolder.open(folder)
