"""Writing a card as HTML and as Markdown."""

import re
from pathlib import Path

from fedlab.comparison import Comparison
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.files import check_folder, write_atomically
from fedlab.core.plugins import looking
from fedlab.report.card.content import card_of
from fedlab.report.templates import render
from fedlab.results.folder import RunFolder

CARD = "card.html"
"""Default file name of a card, in the folder of its run or comparison; ``card.md`` is beside it."""

_FORMATS = (".html", ".md")

_MARKS = re.compile(r"([\\`*_\[\]<>|&])")
"""Characters with a meaning in Markdown."""


def write_card(subject: RunFolder | Comparison, path: Path | None = None) -> list[Path]:
    """Write one or two printed pages about a run or a comparison, for somebody who must decide.

    The page loads nothing from a network. HTML and Markdown have the same words and numbers.

    Args:
        subject: The run or the comparison.
        path: The file to write, whose missing folders are made and whose ending selects the
            format: ``.html`` or ``.md``. Both in the folder of the subject unless given.

    Returns:
        The files.

    Raises:
        BadInput: If nothing has finished yet, or a file cannot be written.
        RunFailed: If files of the run are damaged; the card is written without what they hold.
    """
    folder = subject.path if isinstance(subject, RunFolder) else subject.folder
    default = folder / CARD
    paths = [default.with_suffix(each) for each in _FORMATS] if path is None else [path]
    for each in paths:
        check_folder(each.parent)
        if each.suffix.lower() not in _FORMATS or each.is_dir():
            raise BadInput(f"{each} is no name of a card: it must end in .html or .md")
    with looking("run"):
        card = card_of(subject)
    for each in paths:
        text = render(f"card{each.suffix.lower()}", card=card, md=_escaped)
        each.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(each, text.encode())
    if lost := card.page.missing.sentences:
        raise RunFailed(f"{paths[0]} lacks what could not be read: {'; '.join(lost)}")
    return paths


def _escaped(text: object) -> str:
    """A text on one line in which no character has a meaning in Markdown."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))
