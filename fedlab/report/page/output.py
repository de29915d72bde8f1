"""Writing the HTML of a page to its file."""

from pathlib import Path

from fedlab.core.errors import BadInput
from fedlab.core.files import check_folder, write_atomically


def check_page(path: Path) -> None:
    """Check that a page can be written, before it is made.

    Raises:
        BadInput: If it cannot.
    """
    check_folder(path.parent)
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name an HTML file")


def write_html(page: str, path: Path) -> None:
    """Write a page, with the folders that it needs.

    Raises:
        BadInput: If the file cannot be written.
    """
    check_page(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
