"""Figures as data of the page itself, so that the page needs no other file."""

import base64
from collections.abc import Callable, Mapping

from fedlab.report.figures.sheet import NothingToDraw, Picture, encoded
from fedlab.report.page.page_content import Missing

DPI = 130
"""Dots per inch, which are sharp at 900 CSS pixels on screens with two dots per pixel."""


def embed(
    figures: Mapping[str, Callable[[], Picture]], missing: Missing
) -> dict[str, tuple[Picture, str]]:
    """Draw the figures that have something to show, each with a PNG image as a data URI.

    Args:
        figures: Functions that draw a figure or raise ``NothingToDraw``, by the figure's name.
        missing: Notes the figures whose files are damaged.
    """
    found = {}
    for name, draw in figures.items():
        try:
            figure = missing.unless_damaged(draw)
        except NothingToDraw:
            continue
        if figure is None:
            continue
        data = base64.b64encode(encoded(figure, dpi=DPI)).decode()
        found[name] = figure, f"data:image/png;base64,{data}"
    return found
