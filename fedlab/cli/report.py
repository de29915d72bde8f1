"""The command ``fedlab report``."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.core.consoles import console


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a run, of a comparison, or of captures of fedlab.observe."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Default: report.html in that folder, or card.html and card.md."
        ),
    ] = None,
    card: Annotated[
        bool,
        typer.Option(
            "--card",
            help="Write one or two printed pages for somebody who must decide, as HTML and "
            "Markdown; --out writes the one that its ending names.",
        ),
    ] = False,
) -> None:
    """Write one HTML page with verdicts, figures and tables; it needs no network to be read."""
    from fedlab.core.views import show
    from fedlab.report.page import PAGE, open_subject

    subject = open_subject(folder)
    if card:
        from fedlab.report.card import write_card

        for each in write_card(subject, out):
            console.print(f"card: {each}", soft_wrap=True)
        return
    written = show(subject, "page", out or folder / PAGE)
    console.print(f"page: {written} ({written.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
