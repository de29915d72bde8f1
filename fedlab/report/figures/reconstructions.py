"""Pictures of reconstructions: true images above rebuilt ones, with the scores below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fedlab.report.figures.colours import FAINT, INK, LINE, defense_colour
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet, save
from fedlab.report.figures.text_layout import TITLE, width, wrapped
from fedlab.report.tables.numbers import decibels

__all__ = ["Picture", "ReconstructionRow", "reconstruction_figure", "save"]

# All in inches.
_MARGIN = 0.25
_GUTTER = 0.72  # names of the strips
_CELL = 1.12
_GAP = 0.16  # between columns
_STRIP_GAP = 0.08
_TITLE_LINE = 0.27
_KEY = 0.30
_HEADER = 0.30
_NAMES = 0.16
_SCORES = 0.32
_ROW_GAP = 0.20
_BLOCK_GAP = 0.45
_LEAST_WIDTH = 4.6


@dataclass(frozen=True)
class ReconstructionRow:
    """One attacked client in one round.

    Attributes:
        label: What it was, such as ``round 1 · client 0 · open``.
        truth: ``[n, channels, height, width]``, pixels in [0, 1]; 1 or 3 channels.
        guess: What was rebuilt, the same shape, in the same order.
        psnr: dB of each image; NaN where nothing was rebuilt of it.
        ssim: Of each image.
        verdict: Of each image.
        defense: Name of the defense that was on; gives the row its colour.
        mixed: What a mixing client's network saw, the same shape; drawn between the two.
        chance: Chance PSNR of each image in dB.
        names: What each image is called, above it.
        truth_name: What the upper strip is called.
    """

    label: str
    truth: Tensor
    guess: Tensor
    psnr: Sequence[float]
    ssim: Sequence[float]
    verdict: Sequence[str]
    defense: str = "none"
    mixed: Tensor | None = None
    chance: Sequence[float] | None = None
    names: Sequence[str] | None = None
    truth_name: str = "true"

    @property
    def strips(self) -> list[tuple[str, Tensor]]:
        """Names and images of the strips from top to bottom."""
        middle = [("mixed", self.mixed)] if self.mixed is not None else []
        return [(self.truth_name, self.truth), *middle, ("rebuilt", self.guess)]


def reconstruction_figure(
    rows: Sequence[ReconstructionRow], *, title: str, columns: int = 8
) -> Picture:
    """True images above rebuilt ones, a row for each attacked client and round.

    Pixels are drawn unsmoothed. Of a larger batch the first ``columns`` images are shown, chosen by
    place and not by score, and the row says how many there were.

    Args:
        rows: At least one, each with at least one image.
        title: The question that the figure answers.
        columns: Most images in a row.

    Returns:
        A figure that shows itself in a notebook; ``save`` writes it to a file.

    Raises:
        NothingToDraw: If there is no row.
        ValueError: If a row's parts do not fit each other.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 1, 8, 8)
        >>> row = ReconstructionRow(
        ...     "round 1 · client 0 · open", images, images, [100.0] * 2, [1.0] * 2, ["leaks"] * 2
        ... )
        >>> len(reconstruction_figure([row], title="What did the server see of client 0?").axes)
        4
    """
    if not rows:
        raise NothingToDraw("a reconstruction figure needs at least one row")
    for row in rows:
        _check(row)
    shown = max(min(columns, len(row.truth)) for row in rows)
    images = _GUTTER + shown * (_CELL + _GAP) - _GAP
    labels = max(width(_heading(row, columns), 9, bold=True) for row in rows) + 0.15
    block = max(images, labels, _LEAST_WIDTH - 2 * _MARGIN)
    # A long run would be a very tall picture, so its rounds go in pairs.
    across = 2 if len(rows) > 3 and shown <= columns // 2 else 1
    lines_of_rows = [rows[start : start + across] for start in range(0, len(rows), across)]
    page_width = 2 * _MARGIN + across * (block + _BLOCK_GAP) - _BLOCK_GAP
    titles = wrapped(title, TITLE, page_width - 2 * _MARGIN, bold=True)
    top = _MARGIN + len(titles) * _TITLE_LINE + _KEY
    heights = [max(_height(row) for row in line) for line in lines_of_rows]
    page = Sheet(
        page_width, top + sum(height + _ROW_GAP for height in heights) - _ROW_GAP + _MARGIN
    )
    for index, text in enumerate(titles):
        page.text(_MARGIN, _MARGIN + index * _TITLE_LINE, text, size=TITLE, bold=True)
    page.text(
        _MARGIN,
        _MARGIN + len(titles) * _TITLE_LINE,
        "below each image: PSNR and verdict, then SSIM"
        + (" and chance PSNR" if any(row.chance is not None for row in rows) else ""),
        size=8,
        colour=FAINT,
    )
    for line, height in zip(lines_of_rows, heights, strict=True):
        for place, row in enumerate(line):
            _draw(page, row, _MARGIN + place * (block + _BLOCK_GAP), top, columns)
        top += height + _ROW_GAP
    page.figure.alt = _in_words(rows, title)
    return page.figure


def _in_words(rows: Sequence[ReconstructionRow], title: str) -> str:
    verdicts = [verdict for row in rows for verdict in row.verdict]
    scores = sorted(psnr for row in rows for psnr in row.psnr if not math.isnan(psnr))
    reached = (
        f"PSNR goes from {decibels(scores[0])} to {decibels(scores[-1])}"
        if scores
        else "nothing was rebuilt"
    )
    leaking = f"{verdicts.count('leaks')} of {len(verdicts)} images leak"
    return f"{title} True images above rebuilt ones in {len(rows)} rows: {leaking}, {reached}."


def _draw(page: Sheet, row: ReconstructionRow, left: float, top: float, columns: int) -> None:
    colour = defense_colour(row.defense)
    page.text(left, top, "■", size=9, colour=colour)
    page.text(left + 0.15, top, _heading(row, columns), size=9, bold=True)
    side = _image_height(row)
    left += _GUTTER
    shown = range(min(columns, len(row.truth)))
    y = top + _header(row)
    for index in shown if row.names is not None else ():
        page.text(
            left + index * (_CELL + _GAP) + _CELL / 2,
            y - 0.05,
            row.names[index] if row.names else "",
            size=7,
            colour=FAINT,
            align=("center", "bottom"),
        )
    for name, images in row.strips:
        edge = colour if images is row.guess else LINE
        page.text(left - 0.1, y + side / 2, name, size=8, colour=FAINT, align=("right", "center"))
        for index in shown:
            page.image(left + index * (_CELL + _GAP), y, _CELL, side, images[index], edge=edge)
        y += side + _STRIP_GAP
    for index in shown:
        centre = left + index * (_CELL + _GAP) + _CELL / 2
        leaks, rebuilt = row.verdict[index] == "leaks", not math.isnan(row.psnr[index])
        page.text(
            centre,
            y,
            f"{decibels(row.psnr[index])} · {row.verdict[index]}" if rebuilt else "no image",
            size=8,
            bold=leaks,
            colour=INK if leaks else FAINT,
            align=("center", "top"),
        )
        chance = "" if row.chance is None else f" · chance {row.chance[index]:.0f}"
        page.text(
            centre,
            y + 0.17,
            f"SSIM {row.ssim[index]:.2f}{chance}" if rebuilt else row.verdict[index],
            size=7,
            colour=FAINT,
            align=("center", "top"),
        )


def _check(row: ReconstructionRow) -> None:
    count = len(row.truth)
    for name, images in row.strips:
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape != row.truth.shape:
            raise ValueError(
                f"{row.label}: the {name} images must be [n, 1 or 3, height, width] like the true "
                f"ones, but are {list(images.shape)}"
            )
    scores = [row.psnr, row.ssim, row.verdict, *([] if row.chance is None else [row.chance])]
    named = count if row.names is None else len(row.names)
    if not count or named != count or any(len(values) != count for values in scores):
        raise ValueError(f"{row.label}: there must be as many scores and names as images ({count})")


def _heading(row: ReconstructionRow, columns: int) -> str:
    count = len(row.truth)
    return row.label + (f" · first {columns} of {count} images" if count > columns else "")


def _image_height(row: ReconstructionRow) -> float:
    return _CELL * row.truth.shape[2] / row.truth.shape[3]


def _header(row: ReconstructionRow) -> float:
    return _HEADER + (_NAMES if row.names is not None else 0)


def _height(row: ReconstructionRow) -> float:
    return _header(row) + len(row.strips) * (_image_height(row) + _STRIP_GAP) + _SCORES
