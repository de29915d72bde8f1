"""Figures as data of the page itself, so that the page needs no other file."""

import base64
import io
from collections.abc import Callable, Iterable
from typing import NamedTuple

from matplotlib.figure import Figure

from fedlab.report.figures.sheet import NothingToDraw

DPI = 130
"""Dots per inch, which are sharp at 900 CSS pixels on screens with two dots per pixel."""

LEGIBLE = 80
"""CSS pixels per inch at which the smallest letters, of seven points, are eight pixels high."""


PlannedFigure = tuple[str, str, Callable[[], Figure]]
"""HTML id, caption, and the function that draws the figure or raises NothingToDraw."""


class EmbeddedFigure(NamedTuple):
    """A PNG image as a data URI, with its size in pixels and its description.

    ``legible`` is the smallest width in CSS pixels at which the lettering can be read.
    """

    anchor: str
    caption: str
    alt: str
    uri: str
    width: int
    height: int
    legible: int


def embed(figures: Iterable[PlannedFigure]) -> list[EmbeddedFigure]:
    """Draw the figures that have something to show."""
    found = []
    for anchor, caption, draw in figures:
        try:
            figure = draw()
        except NothingToDraw:
            continue
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=DPI)
        uri = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
        alt = getattr(figure, "alt", "") or caption
        inches = figure.get_size_inches()
        width, height, legible = (
            int(inches[i] * dpi) for i, dpi in ((0, DPI), (1, DPI), (0, LEGIBLE))
        )
        found.append(EmbeddedFigure(anchor, caption, alt, uri, width, height, legible))
    return found
