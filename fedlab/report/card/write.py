"""Writing a card as HTML and as Markdown."""

import re
from pathlib import Path

from fedlab.comparison import Comparison
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.files import check_folder, write_atomically
from fedlab.core.plugins import looking
from fedlab.integrations.audit import Audit
from fedlab.integrations.capture_folder import CaptureFolder
from fedlab.report.card.audits import audits_card
from fedlab.report.card.content import card_of
from fedlab.report.page.audit_page import audit_page
from fedlab.report.templates import render
from fedlab.results.folder import RunFolder

_FORMATS = (".html", ".md")

_MARKS = re.compile(r"([\\`*_\[\]<>|&])")
"""Characters with a meaning in Markdown."""


def write_card(
    subject: RunFolder | Comparison | CaptureFolder | Audit, path: Path | None = None
) -> list[Path]:
    """Write one or two printed pages for somebody who must decide.

    The page loads nothing from a network. HTML and Markdown have the same words and numbers.

    Args:
        subject: A run, a comparison, the captures of another federation, or an audit.
        path: The file to write, whose missing folders are made and whose ending selects the
            format: ``.html`` or ``.md``. Both in the folder of the subject unless given; needed for
            an audit.

    Returns:
        The files.

    Raises:
        BadInput: If nothing has finished yet, or a file cannot be written.
        RunFailed: If files of the run are damaged; the card is written without what they hold.
    """
    paths = [path] if path is not None else [_folder(subject) / f"card{e}" for e in _FORMATS]
    for each in paths:
        check_folder(each.parent)
        if each.suffix.lower() not in _FORMATS or each.is_dir():
            raise BadInput(f"{each} is no name of a card: it must end in .html or .md")
    with looking("run"):
        if isinstance(subject, CaptureFolder | Audit):
            card = audits_card(audit_page(subject))
        else:
            card = card_of(subject)
    for each in paths:
        text = render(f"card{each.suffix.lower()}", card=card, md=_escaped)
        each.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(each, text.encode())
    if lost := card.missing.sentences:
        raise RunFailed(f"{paths[0]} lacks what could not be read: {'; '.join(lost)}")
    return paths


def _folder(subject: RunFolder | Comparison | CaptureFolder | Audit) -> Path:
    if isinstance(subject, Audit):
        raise BadInput("an audit has no folder: name the file of its card")
    return subject.folder if isinstance(subject, Comparison) else subject.path


def _escaped(text: object) -> str:
    """A text on one line in which no character has a meaning in Markdown."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))
