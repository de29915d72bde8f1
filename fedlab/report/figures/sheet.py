"""Figures in the style of this package: title, notes, text sizes, files and HTML.

Figures are built without pyplot, so no global state is touched, and matplotlib's constrained layout
places everything in them.
"""

import base64
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import matplotlib
from markupsafe import Markup
from matplotlib.backend_bases import FigureCanvasBase, RendererBase
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.typing import ColorType

from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.views import Viewable
from fedlab.report.figures.colours import FAINT, INK, LINE

TITLE, TEXT, SMALL, TINY = 13, 9, 8, 7
"""Text sizes in points."""

MARGIN = 0.2
"""Distance of titles and notes from the left edge in inches."""

LONGEST = 11.0
"""Longest line of a note in inches: of a longer one nobody finds the next line, and its width is
underestimated by more than the margin, since letters are drawn at whole pixels."""

T = TypeVar("T")

Options: TypeAlias = dict[Any, Any]
"""Keyword arguments of matplotlib that several calls share."""

STYLE: Options = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so text has the same width everywhere
    "font.size": SMALL,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is not mathematics
    "figure.titlesize": TITLE,
    "figure.titleweight": "bold",
    "figure.labelsize": SMALL,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.borderpad": 0,
    "hatch.linewidth": 0.6,
}

_FILES: Options = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "fedlab"}
"""Text as text in PDF and SVG files, and the same names of parts in every SVG file."""

styled = partial(matplotlib.rc_context, STYLE)
"""Decorator of the functions that draw a figure."""

_PIECES = re.compile(r"\s*[^\s:+]*[:+]?")
"""Parts of a text that stay on one line: words, and the parts of a defense's label."""


class NothingToDraw(ValueError):
    """There is nothing to show in a figure; the message says why in one sentence."""


class Picture(Figure):
    """A figure that displays itself in a notebook, even if pyplot was never imported.

    Attributes:
        alt: Content of the figure in words and numbers, for readers who do not see it.
        question: The title as one line.
        notes: The explanations below the content, each in one line.
        heading: The title as it is drawn.
        footnotes: The explanations as they are drawn.
    """

    alt: str = ""
    question: str = ""
    notes: Sequence[str] = ()
    heading: Text | None = None
    footnotes: Text | None = None

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure; ticks are made only now, so the style must apply here as well."""
        with styled():
            super().draw(renderer)

    def save(self, path: Path | str, *, title: bool = True) -> Path:
        """Write the figure to a file, for example for a paper.

        Text stays text: fonts are embedded in PDF files (type 42), and SVG files name them. A
        failed write leaves no partial file behind.

        Args:
            path: File name; its ending selects the format, such as ``.pdf``, ``.svg`` or ``.png``.
                Without an ending the format is PNG.
            title: Whether to write the title; papers have a caption instead.

        Returns:
            Path of the file.

        Raises:
            BadInput: If the format is unknown, or the file cannot be written.
        """
        with self.without(self.heading if not title else None):
            try:
                save(self, Path(path))
            except OSError as error:
                raise BadInput(f"{path} cannot be written: {error}") from error
        return Path(path)

    @contextmanager
    def without(self, *texts: Text | None) -> Iterator[None]:
        """Leave out the title or the notes, and their room, while the block runs.

        Args:
            *texts: ``heading``, ``footnotes`` or ``None``.
        """
        left_out, (width, height) = [each for each in texts if each], self.get_size_inches()
        room = sum(inches(each.get_text(), float(each.get_fontsize())) for each in left_out)
        try:
            for each in left_out:
                each.set(visible=False, in_layout=False)
            self.set_size_inches(width, height - room)
            yield
        finally:
            for each in left_out:
                each.set(visible=True, in_layout=True)
            self.set_size_inches(width, height)

    def _repr_png_(self) -> bytes:
        return encoded(self, dpi=110)


def new_picture(width: float, height: float, *, title: str, notes: Sequence[str] = ()) -> Picture:
    """Make an empty figure with a title above and notes below its content.

    Args:
        width: Width of the figure in inches.
        height: Height of the content in inches; title and notes are added to it.
        title: Question that the figure answers.
        notes: Explanations, each in a paragraph of its own.
    """
    room = width - 2 * MARGIN
    heading = wrapped(title, room, TITLE, bold=True)
    text = "\n".join(wrapped(note, min(room, LONGEST)) for note in notes if note)
    height += inches(heading, TITLE) + inches(text) + 0.25
    side = MARGIN / width
    layout = ConstrainedLayoutEngine(rect=(side, 0, 1 - 2 * side, 1), w_pad=0.03, h_pad=0.07)
    picture = Picture(figsize=(width, height), facecolor="white", layout=layout)
    picture.question, picture.notes = title, [note for note in notes if note]
    picture.heading = picture.suptitle(heading, x=side, ha="left", linespacing=1.15)
    if text:
        picture.footnotes = picture.supxlabel(text, x=side, ha="left", color=FAINT)
    return picture


def inches(text: str, size: float = SMALL) -> float:
    """Height of a text in inches; 0 if it is empty."""
    return (text.count("\n") + 1) * 1.25 * size / 72 if text else 0.0


@cache
def width_of(text: str, size: float = SMALL, bold: bool = False) -> float:
    """Width of the widest line of a text in inches."""
    font = FontProperties(family=STYLE["font.family"], size=size, weight="bold" if bold else 400)
    measure = text_to_path.get_text_width_height_descent
    return max(float(measure(line, font, False)[0]) / 72 for line in text.split("\n"))


def wrapped(text: str, room: float, size: float = SMALL, *, bold: bool = False) -> str:
    """Break a text into lines of at most ``room`` inches.

    Lines end between words or after ``:`` or ``+``, as in ``dp-sgd:noise_multiplier=2``; only a
    part that is wider than ``room`` by itself is broken inside, after ``_`` if it has one.

    Example:
        >>> wrapped("dp-sgd:noise_multiplier=2:clipping_norm=0.5", 1.2).split()
        ['dp-sgd:', 'noise_multiplier=2:', 'clipping_norm=0.5']
    """
    lines = [""]
    for piece in _PIECES.findall(text):
        if lines[-1] and width_of(lines[-1] + piece, size, bold) > room:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
        while len(line := lines[-1]) > 1 and width_of(line, size, bold) > room:
            fits = [1, *(e for e in range(2, len(line)) if width_of(line[:e], size, bold) <= room)]
            end = max([e for e in fits[1:] if line[e - 1] == "_"] or fits)
            lines[-1:] = [line[:end], line[end:]]
    return "\n".join(lines)


def ink_on(colour: ColorType) -> str:
    """Colour of text that can be read on a ground of some colour: black or white.

    The better of the two has a contrast of at least 4.5 to any ground, as WCAG 2 asks for.
    """
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    # Both have equal contrast at sqrt(1.05 * 0.05) - 0.05.
    return "#000000" if luminance > 0.179 else "#FFFFFF"


def first_of(parts: Iterable[str], *, most: int = 8) -> str:
    """Join the first parts of an ``alt`` text, and say how many more there are.

    Example:
        >>> first_of(["a", "b"]), first_of("abcd", most=2)
        ('a; b', 'a; b; and 2 more')
    """
    parts = list(parts)
    more = [f"and {len(parts) - most} more"] if len(parts) > most else []
    return "; ".join([*parts[:most], *more])


def evenly(parts: Sequence[T], most: int) -> list[T]:
    """At most so many of some parts, evenly spread from the first to the last.

    Args:
        parts: What there is, in order.
        most: Largest number of parts, at least 2.

    Example:
        >>> evenly("abcdefghi", 3), evenly("ab", 3)
        (['a', 'e', 'i'], ['a', 'b'])
    """
    if len(parts) <= most:
        return list(parts)
    return [parts[round(place * (len(parts) - 1) / (most - 1))] for place in range(most)]


def in_words(picture: Picture, *facts: str) -> str:
    """The ``alt`` text of a figure: title, labels and legend of each plot, and further facts.

    Args:
        picture: Figure of which everything is drawn.
        *facts: Notes, and numbers that the figure shows but does not write.
    """
    plots = []
    for axes in picture.axes:
        legend = axes.get_legend()
        names = [text.get_text() for text in legend.get_texts()] if legend else []
        heading = " ".join(filter(None, (axes.get_title("left"), axes.get_ylabel())))
        plots.append(f"{heading}: {first_of(names)}." if names else "")
    parts = [picture.get_suptitle(), *plots, *(f"{fact.rstrip('.')}." for fact in facts if fact)]
    return " ".join(" ".join(filter(None, parts)).split())


def main_figure(thing: Viewable, *args: Any, **options: Any) -> Figure:
    """View ``picture`` of a class that registers none: its main figure."""
    return thing.plot(*args, **options)


def figure_html(thing: Viewable) -> str:
    """View ``html`` of a class that registers none: the object as text above its main figure."""
    try:
        figure = thing.plot()
    except (BadInput, ValueError) as error:  # there is nothing to draw yet
        return Markup("<p>{}: {}</p>").format(str(thing), str(error))
    return Markup("<div><p>{}</p>{}</div>").format(str(thing), image_tag(figure))


def image_tag(figure: Figure) -> Markup:
    """A figure as an HTML image that contains its own data."""
    data = base64.b64encode(encoded(figure, dpi=110)).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}" style="max-width:100%">').format(
        data, getattr(figure, "alt", "")
    )


def save(figure: Figure, path: Path, *, dpi: int = 160) -> None:
    """Write a figure in the format of the file's ending. A failed write leaves no partial file.

    Raises:
        BadInput: If matplotlib cannot write the format.
        OSError: If the file cannot be written.
    """
    write_atomically(path, encoded(figure, format=format_of(path), dpi=dpi))


def format_of(path: Path) -> str:
    """Format of an image file by its ending, PNG without one.

    Raises:
        BadInput: If matplotlib cannot write the format.
    """
    format, known = path.suffix[1:].lower() or "png", FigureCanvasBase.filetypes
    if format not in known:
        raise BadInput(f"no figure can be written as .{format}; formats: {', '.join(known)}")
    return format


def encoded(figure: Figure, *, format: str = "png", dpi: int = 160) -> bytes:
    """Content of an image file with the figure.

    Args:
        figure: Figure to encode.
        format: Ending of the file name without the dot, such as ``png``, ``svg`` or ``pdf``.
        dpi: Pixels per inch.
    """
    content = io.BytesIO()
    # Files without a date have the same bytes whenever they are written.
    dated = {"svg": "Date", "svgz": "Date", "pdf": "CreationDate"}.get(format)
    with matplotlib.rc_context(_FILES):
        figure.savefig(content, format=format, dpi=dpi, metadata={dated: None} if dated else None)
    return content.getvalue()
