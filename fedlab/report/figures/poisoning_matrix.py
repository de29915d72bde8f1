"""How often poisoning succeeds under each pair of defense, rule and scenario, as a heat map."""

import math
from dataclasses import dataclass
from statistics import median

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from fedlab.metrics.verdict import success_above_chance
from fedlab.report.figures.arms import counted
from fedlab.report.figures.colours import FAINT, LINE, ink_on
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet, first_of
from fedlab.report.figures.text_layout import SMALL, TEXT, TINY, TITLE, line_height, width, wrapped

_COLUMNS = ("scenario", "defense", "rule")

# All in inches.
_MARGIN = 0.25
_CELL = (1.2, 0.68)
_NAMES = 2.0
_LEAST_WIDTH = 5.6

_COLOURS = colormaps["cividis"].reversed()
"""From light to dark: read by colour-blind people, and in print."""


@dataclass(frozen=True)
class _Cell:
    """One pair, over seeds; NaN where nobody poisons."""

    success: float
    low: float
    high: float
    chance: float
    above: float
    accuracy: float
    seeds: int


def poisoning_matrix_figure(
    frame: pd.DataFrame, *, rows: str = "defense", columns: str = "rule"
) -> Picture:
    """Attack success rate after the last round, the median over seeds with its range.

    Chance and accuracy are below it, and colours tell what is reached above chance; cells in which
    nobody poisons are hatched.

    Args:
        frame: Of a comparison; see ``fedlab.comparison``.
        rows: ``defense``, ``rule`` or ``scenario``.
        columns: Another of them.

    Raises:
        NothingToDraw: If the frame is empty, or nobody poisons in any run.
        ValueError: If the two are not among these or are the same, or the frame varies in the third
            as well.
    """
    if rows == columns or not {rows, columns} <= set(_COLUMNS):
        raise ValueError(f"rows and columns are two of {', '.join(_COLUMNS)}")
    if frame.empty:
        raise NothingToDraw("the comparison has no rows, so there is no matrix")
    if frame["attack_success_rate"].isna().all():
        raise NothingToDraw("no run has an attack success rate, so there is no matrix")
    (third,) = set(_COLUMNS) - {rows, columns}
    if frame[third].nunique() > 1:
        raise ValueError(
            f"the comparison has more than one {third}: choose it for the rows or columns, or keep "
            "one of them"
        )
    cells = _cells(frame, rows, columns)
    down, across = list(map(str, frame[rows].unique())), list(map(str, frame[columns].unique()))
    names = [wrapped(name, SMALL, _NAMES) for name in down]
    left = _MARGIN + max(width(line, SMALL) for lines in names for line in lines) + 0.15
    wide, high = _CELL
    heads = [wrapped(name, SMALL, wide - 0.1) for name in across]
    page = max(left + len(across) * wide + _MARGIN, _LEAST_WIDTH)
    title = f"How often does poisoning succeed, by {rows} and {columns}?"
    titles = wrapped(title, TITLE, page - 2 * _MARGIN, bold=True)
    key = wrapped(
        f"Attack success rate after the last round: median of "
        f"{counted(cell.seeds for cell in cells.values())}, below it their range, how often clean "
        "images get the same label (chance), and accuracy. Darker: more often than by chance. "
        "Hatched: nobody poisons.",
        SMALL,
        page - 2 * _MARGIN,
    )
    top = _MARGIN + len(titles) * line_height(TITLE) + 0.03
    head = top + len(key) * line_height(SMALL) + 0.15
    plot = head + max(map(len, heads)) * line_height(SMALL) + 0.06
    sheet = Sheet(page, plot + len(down) * high + _MARGIN)
    sheet.lines(_MARGIN, _MARGIN, titles, size=TITLE, bold=True)
    sheet.lines(_MARGIN, top, key, size=SMALL, colour=FAINT)
    axes = sheet.axes(left, plot, len(across) * wide, len(down) * high)
    axes.set_axis_off()
    axes.set_xlim(0, len(across))
    axes.set_ylim(len(down), 0)
    for place, lines in enumerate(heads):
        for line, text in enumerate(lines):
            y = plot - 0.06 - (len(lines) - line) * line_height(SMALL)
            x = left + (place + 0.5) * wide
            sheet.text(x, y, text, size=SMALL, align=("center", "top"))
    for row, (down_name, lines) in enumerate(zip(down, names, strict=True)):
        y = plot + (row + 0.5) * high
        sheet.lines(_MARGIN, y - len(lines) * line_height(SMALL) / 2, lines, size=SMALL)
        for column, across_name in enumerate(across):
            cell = cells.get((down_name, across_name))
            tile = _tile(column, row, cell)
            axes.add_patch(tile)
            if cell is not None:
                _write(
                    sheet,
                    left + (column + 0.5) * wide,
                    y,
                    cell,
                    ink_on(to_rgba(tile.get_facecolor())),
                )
    sheet.figure.alt = _in_words(title, cells)
    return sheet.figure


def _cells(frame: pd.DataFrame, rows: str, columns: str) -> dict[tuple[str, str], _Cell]:
    last = frame[frame["round"] == frame.groupby([rows, columns, "seed"])["round"].transform("max")]
    ends = last.groupby([rows, columns, "seed"], sort=False)[
        ["attack_success_rate", "chance_success_rate", "accuracy"]
    ].first()
    cells = {}
    for (down, across), seeds in ends.groupby(level=[0, 1], sort=False):
        rate, chance = seeds["attack_success_rate"], seeds["chance_success_rate"]
        cells[str(down), str(across)] = _Cell(
            success=rate.median(),
            low=rate.min(),
            high=rate.max(),
            chance=chance.median(),
            above=median(map(success_above_chance, rate, chance)),
            accuracy=seeds["accuracy"].median(),
            seeds=len(seeds),
        )
    return cells


def _tile(column: int, row: int, cell: _Cell | None) -> Rectangle:
    """Coloured by what is reached above chance, hatched where nobody poisons."""
    if cell is None or math.isnan(cell.success):
        return Rectangle(
            (column, row), 1, 1, facecolor="white", edgecolor=LINE, linewidth=0.5, hatch="////"
        )
    colour = _COLOURS(max(cell.above, 0.0))
    return Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=2)


def _write(sheet: Sheet, x: float, y: float, cell: _Cell, ink: str) -> None:
    if math.isnan(cell.success):
        # White behind it, or the hatches run through the text.
        sheet.text(x, y, f"accuracy {cell.accuracy:.2f}", size=TINY, align=("center", "center"))
        sheet.figure.texts[-1].set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
        return
    lines = [f"{cell.low:.2f} to {cell.high:.2f}"] if cell.seeds > 1 else []
    lines += [f"chance {cell.chance:.2f}"] if math.isfinite(cell.chance) else []
    lines.append(f"accuracy {cell.accuracy:.2f}")
    top = y - (line_height(TEXT + 2) + len(lines) * line_height(TINY)) / 2
    sheet.text(
        x, top, f"{cell.success:.2f}", size=TEXT + 2, bold=True, colour=ink, align=("center", "top")
    )
    top += line_height(TEXT + 2)
    sheet.lines(x, top, lines, size=TINY, colour=ink, align=("center", "top"))


def _in_words(title: str, cells: dict[tuple[str, str], _Cell]) -> str:
    parts = [
        f"{down} with {across} "
        + ("nobody poisons" if math.isnan(cell.success) else f"{cell.success:.2f}")
        + (f" (chance {cell.chance:.2f})" if math.isfinite(cell.chance) else "")
        + f" at accuracy {cell.accuracy:.2f}"
        for (down, across), cell in cells.items()
    ]
    return f"{title} Attack success after the last round: {first_of(parts)}."
