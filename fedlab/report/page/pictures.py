"""Figures as data of the page itself."""

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from matplotlib.figure import Figure

from fedlab.report.figures.sheet import NothingToDraw
from fedlab.report.page.content import Shown

DPI = 130
"""Sharp on a page of 900 pixels, also where a screen has two for each of them."""


LEGIBLE = 80
"""Screen pixels for an inch at which the smallest lettering, of seven points, is eight high."""


@dataclass(frozen=True)
class Planned:
    """A figure that may have nothing to draw.

    Attributes:
        anchor: Its id.
        caption: What it shows, and how to read it.
        draw: Makes it; raises NothingToDraw if there is nothing to draw.
    """

    anchor: str
    caption: str
    draw: Callable[[], Figure]


def shown(tasks: Iterable[Planned]) -> list[Shown]:
    """The figures that have something to draw."""
    found = []
    for task in tasks:
        try:
            figure = task.draw()
        except NothingToDraw:
            continue
        found.append(_shown(task, figure))
    return found


def _shown(task: Planned, figure: Figure) -> Shown:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    data = content.getvalue()
    # A PNG holds its size at a fixed place, in its first chunk.
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    return Shown(
        anchor=task.anchor,
        caption=task.caption,
        alt=getattr(figure, "alt", "") or task.caption,
        uri="data:image/png;base64," + base64.b64encode(data).decode(),
        width=width,
        height=height,
        legible=round(width * LEGIBLE / DPI),
    )
