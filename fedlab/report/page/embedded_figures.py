"""Figures as data of the page itself, so that the page needs no other file."""

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from matplotlib.figure import Figure

from fedlab.report.figures.sheet import NothingToDraw

DPI = 130
"""Dots per inch, which are sharp at 900 CSS pixels on screens with two dots per pixel."""

LEGIBLE = 80
"""CSS pixels per inch at which the smallest letters, of seven points, are eight pixels high."""


@dataclass(frozen=True)
class PlannedFigure:
    """A figure that may have nothing to show.

    Attributes:
        anchor: HTML id of the figure.
        caption: What the figure shows, and how to read it.
        draw: Function that draws the figure, or raises NothingToDraw.
    """

    anchor: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure on the page.

    Attributes:
        anchor: HTML id of the figure.
        caption: What the figure shows, and how to read it.
        alt: Description for readers who do not see the figure.
        uri: The PNG image as a data URI.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        legible: Smallest width in CSS pixels at which the lettering can be read.
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
    for planned in figures:
        try:
            figure = planned.draw()
        except NothingToDraw:
            continue
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=DPI)
        width, height = (int(DPI * inches) for inches in figure.get_size_inches())
        found.append(
            EmbeddedFigure(
                planned.anchor,
                planned.caption,
                alt=getattr(figure, "alt", "") or planned.caption,
                uri=f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}",
                width=width,
                height=height,
                legible=round(width * LEGIBLE / DPI),
            )
        )
    return found
