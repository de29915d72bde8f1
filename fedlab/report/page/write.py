"""Writing the page: one file, with its style and its pictures in it."""

from importlib import import_module
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedlab.errors import BadInput
from fedlab.files import check_folder, write_atomically
from fedlab.report.page.content import Content
from fedlab.report.page.of_comparison import page_of_comparison
from fedlab.report.page.of_run import page_of_run
from fedlab.report.page.subject import Compared
from fedlab.runs.folder import RunFolder

PAGE = "report.html"
"""What the page is called in the folder that it is about, unless told otherwise."""

_COMPARISON = "comparison.json"


def write_page(subject: RunFolder | Compared, path: Path) -> Path:
    """Write one HTML page about a run or a comparison.

    It asks nothing of any network: pictures and style are in it, and its own policy forbids the
    rest.

    Args:
        subject: What it is about.
        path: The file to write; its folder is made.

    Returns:
        The file.

    Raises:
        BadInput: If nothing has finished yet, or the file cannot be written.
    """
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


def open_subject(folder: Path) -> RunFolder | Compared:
    """The run or the comparison that a folder holds.

    Raises:
        BadInput: If it holds neither.
    """
    if (folder / _COMPARISON).is_file():
        comparison: Compared = import_module("fedlab.comparison").Comparison.open(folder)
        return comparison
    if not (folder / "scenario.toml").is_file():
        raise BadInput(
            f"{folder} holds neither a run nor a comparison: there is no scenario.toml and no "
            f"{_COMPARISON} in it"
        )
    return RunFolder.open(folder)
