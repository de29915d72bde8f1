"""Figures as data of the page itself, so that the page needs no other file."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.legend import Legend
from PIL import Image

from fedlab.report.figures.sheet import NothingToDraw, Picture, encoded
from fedlab.report.page.page_content import Missing

DPI = 130
"""Dots per inch, which are sharp at 900 CSS pixels on screens with two dots per pixel."""

LEGIBLE = 96
"""CSS pixels per inch at which the smallest letters, of seven points, have nine pixels."""


class Png(NamedTuple):
    """A PNG image that a page contains.

    Attributes:
        uri: The image as a data URI.
        width: Width in dots.
        height: Height in dots.
    """

    uri: str
    width: int
    height: int

    @property
    def legible(self) -> int:
        """Width in CSS pixels at which letters can be read."""
        return self.width * LEGIBLE // DPI


class EmbeddedFigure(NamedTuple):
    """A figure whose title, notes and legend the page can write beside its image.

    Attributes:
        picture: The figure.
        image: The figure without its title and its notes.
        legend: Sign and name of each entry of its legends, which the image has as well.
    """

    picture: Picture
    image: Png
    legend: Sequence[tuple[Png, str]]


def embed(
    figures: Mapping[str, Callable[[], Picture]], missing: Missing
) -> dict[str, EmbeddedFigure]:
    """Draw the figures that have something to show.

    Args:
        figures: Functions that draw a figure or raise ``NothingToDraw``, by the figure's name.
        missing: Notes the figures whose files are damaged.
    """
    found = {}
    for name, draw in figures.items():
        try:
            picture = missing.unless_damaged(draw)
        except NothingToDraw:
            continue
        if picture is None:
            continue
        with picture.without(picture.heading, picture.footnotes):
            content = encoded(picture, dpi=DPI)
            with Image.open(io.BytesIO(content)) as image:
                legend = _legend(picture, image)
                found[name] = EmbeddedFigure(picture, _png(content, image.size), legend)
    return found


def _png(content: bytes, size: tuple[int, int]) -> Png:
    return Png(f"data:image/png;base64,{base64.b64encode(content).decode()}", *size)


def _legend(picture: Picture, image: Image.Image) -> list[tuple[Png, str]]:
    """Signs and names in the legends of a figure, cut out of its image."""
    legends = [legend for axes in picture.axes if (legend := axes.get_legend())]
    if legends:
        picture.draw_without_rendering()  # places the texts at the dots per inch of the figure
    return [entry for legend in legends for entry in _entries(legend, image, DPI / picture.dpi)]


def _entries(legend: Legend, image: Image.Image, scale: float) -> list[tuple[Png, str]]:
    found = []
    for text in legend.get_texts():
        letter = float(text.get_fontsize()) * DPI / 72
        box = text.get_window_extent()
        right = scale * box.x0 - letter * legend.handletextpad / 2
        # Little more than the sign: the plot may begin beside it.
        left = scale * box.x0 - letter * (legend.handletextpad + legend.handlelength + 0.1)
        top, bottom = (image.height - scale * edge for edge in (box.y1, box.y0))
        content = io.BytesIO()
        sign = image.crop((round(left), round(top), round(right), round(bottom))).convert("RGB")
        sign.save(content, "PNG")
        found.append((_png(content.getvalue(), sign.size), text.get_text()))
    return found
