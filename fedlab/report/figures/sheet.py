"""A figure on which things are placed in inches, from the upper left corner.

One image or sixty-four come out at the same size, and no text moves because of another. Figures
are made without pyplot, so no global state is touched.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.views import Viewable
from fedlab.report.figures.colours import FAINT, FONT, INK, LINE
from fedlab.report.figures.text_layout import font, line_height

SMOOTHED_FROM = 64
"""Side in pixels: smaller images keep their pixels, larger ones would alias if not smoothed."""


class NothingToDraw(ValueError):
    """There is nothing that a figure could show, as one sentence; not a mistake of the caller."""


class Picture(Figure):
    """A figure that a notebook shows by itself, whether or not pyplot was imported.

    Attributes:
        alt: What it shows, in words and numbers, for readers who do not see it.
    """

    alt: str = ""

    def _repr_png_(self) -> bytes:
        return encoded(self, dpi=110)


class Sheet:
    """A picture under construction.

    Args:
        width: In inches.
        height: In inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Picture(figsize=(width, height), facecolor="white")
        self._width, self._height = width, height

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        colour: str = INK,
        bold: bool = False,
        align: tuple[str, str] = ("left", "top"),
    ) -> None:
        """Write a text, such that the corner that ``align`` names is at (x, y)."""
        self.figure.text(
            x / self._width,
            1 - y / self._height,
            text,
            ha=align[0],
            va=align[1],
            color=colour,
            parse_math=False,
            linespacing=1.2,
            fontproperties=font(size, bold=bold),
        )

    def lines(self, x: float, y: float, lines: Sequence[str], *, size: float, **how: Any) -> float:
        """Write lines below each other.

        Returns:
            Where the next line would begin.
        """
        for line in lines:
            self.text(x, y, line, size=size, **how)
            y += line_height(size)
        return y

    def swatch(self, x: float, y: float, *, size: float, colour: str, hatch: str = "") -> None:
        """Draw what stands for an area before its name, as high as text of a size in points."""
        high = size / 72
        corner = x / self._width, 1 - (y + 1.1 * high) / self._height
        sides = 1.6 * high / self._width, high / self._height
        self.figure.add_artist(
            Rectangle(corner, *sides, facecolor=colour, edgecolor="white", linewidth=0, hatch=hatch)
        )

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes without a frame but at the left and below, whose numbers stand back."""
        axes = self._place(x, y, width, height)
        axes.tick_params(colors=FAINT, labelsize=8, labelfontfamily=FONT, length=3)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(LINE)
        return axes

    def image(
        self, x: float, y: float, width: float, height: float, image: Tensor, *, edge: str = LINE
    ) -> None:
        """Show an image ``[1 or 3, height, width]`` with pixels in [0, 1]; NaN is grey."""
        axes = self._place(x, y, width, height)
        pixels = image.detach().cpu().float().clamp(0, 1).nan_to_num(nan=0.5)
        shown = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
        smoothing = "nearest" if max(image.shape[1:]) <= SMOOTHED_FROM else "antialiased"
        axes.imshow(
            shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation=smoothing, aspect="auto"
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=edge, linewidth=1.2 if edge != LINE else 0.6)

    def _place(self, x: float, y: float, width: float, height: float) -> Axes:
        left, bottom = x / self._width, 1 - (y + height) / self._height
        return self.figure.add_axes((left, bottom, width / self._width, height / self._height))


def first_of(parts: Iterable[str], *, most: int = 8) -> str:
    """Parts of a picture's ``alt`` in a row; of many the first, and how many more there are.

    They are clauses with commas of their own; words of a sentence go through ``numbers.listed``.

    Example:
        >>> first_of(["a", "b"]), first_of("abcd", most=2)
        ('a; b', 'a; b; and 2 more')
    """
    parts = list(parts)
    more = [f"and {len(parts) - most} more"] if len(parts) > most else []
    return "; ".join([*parts[:most], *more])


def main_figure(thing: Viewable, *args: Any, **options: Any) -> Figure:
    """View ``picture`` of a class that registers none: its main figure."""
    return thing.plot(*args, **options)


def figure_html(thing: Viewable) -> str:
    """View ``html`` of a class that registers none: the object as text above its main figure."""
    figure = thing.plot()
    data = base64.b64encode(encoded(figure, dpi=110)).decode()
    return (
        f'<div><p>{escape(str(thing))}</p><img src="data:image/png;base64,{data}" '
        f'alt="{escape(getattr(figure, "alt", ""))}" style="max-width:100%"></div>'
    )


def save(figure: Figure, path: Path, *, dpi: int = 160) -> None:
    """Write a figure as a PNG, whole or not at all."""
    write_atomically(path, encoded(figure, dpi=dpi))


def encoded(figure: Figure, *, format: str = "png", dpi: int = 160) -> bytes:
    """Content of an image file with the figure.

    Args:
        figure: Figure to encode.
        format: Ending of the file name without the dot, such as ``png``, ``svg`` or ``pdf``.
        dpi: Pixels per inch.

    Raises:
        BadInput: If matplotlib cannot write the format.
    """
    known = figure.canvas.get_supported_filetypes()
    if format not in known:
        raise BadInput(f"no figure can be written as .{format}; formats: {', '.join(known)}")
    content = io.BytesIO()
    figure.savefig(content, format=format, dpi=dpi)
    return content.getvalue()
