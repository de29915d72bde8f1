"""How wide text will be, so that it can be broken and placed before anything is drawn."""

import re
from collections.abc import Iterator
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from fedlab.report.figures.colours import FONT

TITLE, TEXT, SMALL, TINY = 13, 9, 8, 7
"""Sizes in points."""

_BREAKS = re.compile(r"[^\s:+]+[:+]?|[:+]")
"""Words, and the parts of a defense's label, which has no spaces."""


def font(size: float, *, bold: bool = False) -> FontProperties:
    """The font of all figures in a size in points."""
    return FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")


@lru_cache(maxsize=4096)  # the same labels are measured again wherever they might go
def width(text: str, size: float, *, bold: bool = False) -> float:
    """Width in inches of the widest line of a text in a size in points."""
    lines = text.split("\n")
    return max(
        float(
            text_to_path.get_text_width_height_descent(line, font(size, bold=bold), ismath=False)[0]
        )
        / 72
        for line in lines
    )


def line_height(size: float) -> float:
    """Inches from one line of a text to the next."""
    return 1.2 * size / 72


def wrapped(text: str, size: float, room: float, *, bold: bool = False) -> list[str]:
    """A text in lines of at most so many inches.

    It is broken between words and, as in ``dp-sgd:noise_multiplier=2``, after a colon or a plus;
    only a part that is wider by itself is broken inside, after a low line if it has one.

    Example:
        >>> wrapped("dp-sgd:noise_multiplier=2:clipping_norm=0.5", 8, 1.2)
        ['dp-sgd:', 'noise_multiplier=2:', 'clipping_norm=0.5']
    """
    lines = [""]
    for part, glue in _parts(text, size, room, bold=bold):
        longer = lines[-1] + glue + part if lines[-1] else part
        if lines[-1] and width(longer, size, bold=bold) > room:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _parts(text: str, size: float, room: float, *, bold: bool) -> Iterator[tuple[str, str]]:
    """Parts that stay whole, and what comes before each unless it begins a line."""
    for word in text.split():
        glue = " "
        for piece in _BREAKS.findall(word):
            while width(piece, size, bold=bold) > room and len(piece) > 1:
                fits = [
                    end
                    for end in range(2, len(piece))
                    if width(piece[:end], size, bold=bold) <= room
                ]
                after_low_lines = [end for end in fits if piece[end - 1] == "_"]
                end = max(after_low_lines or fits, default=1)
                yield piece[:end], glue
                piece, glue = piece[end:], ""
            yield piece, glue
            glue = ""
