"""Heat map of attack success: how often poisoning works under each defense, rule and scenario."""

import math
from statistics import median

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from fedlab.metrics.verdict import success_above_chance
from fedlab.report.figures.colours import INK, LINE
from fedlab.report.figures.sheet import (
    MARGIN,
    TEXT,
    TINY,
    NothingToDraw,
    Options,
    Picture,
    first_of,
    inches,
    ink_on,
    new_picture,
    styled,
    width_of,
    wrapped,
)
from fedlab.report.tables.numbers import seeds_in_words

_COLUMNS = ("scenario", "defense", "rule", "grid")
_RATE, _CHANCE = "attack_success_rate", "chance_success_rate"

_WIDE, _HIGH = 1.2, 0.68
"""Size of a cell in inches."""

_COLOURS = colormaps["cividis"].reversed()
"""From light to dark; colour-blind people and readers of grey prints see the same order."""


@styled()
def poisoning_matrix_figure(
    frame: pd.DataFrame, *, rows: str = "defense", columns: str = "rule"
) -> Picture:
    """Draw the attack success rate after the last round: the median over seeds with its range.

    Chance and accuracy stand below it, and colours show the success above chance; cells in which
    nobody poisons are hatched, and those without a run empty.

    Args:
        frame: Table of a comparison; see ``fedlab.comparison``.
        rows: ``defense``, ``rule``, ``scenario`` or ``grid``, the values of swept settings.
        columns: Another of them.

    Raises:
        NothingToDraw: If the frame is empty, or nobody poisons in any run.
        NothingToDraw: If the frame varies in another of them as well.
        ValueError: If the two are not among these or are the same.
    """
    if rows == columns or not {rows, columns} <= set(_COLUMNS):
        raise ValueError(f"rows and columns are two of {', '.join(_COLUMNS)}")
    if frame.empty:
        raise NothingToDraw("the comparison has no rows, so there is no matrix")
    if frame[_RATE].isna().all():
        raise NothingToDraw("no run has an attack success rate, so there is no matrix")
    for other in sorted(set(_COLUMNS) - {rows, columns}):
        if frame[other].nunique() > 1:
            raise NothingToDraw(
                f"the comparison has more than one {other}: choose it for the rows or columns, or "
                "keep one of them"
            )
    runs = frame.groupby([rows, columns, "seed"], sort=False)
    ends = frame[frame["round"] == runs["round"].transform("max")]
    ends = ends.groupby([rows, columns, "seed"], sort=False)[[_RATE, _CHANCE, "accuracy"]].first()
    cells = dict(iter(ends.groupby(level=[0, 1], sort=False)))
    down, across = list(frame[rows].unique()), list(frame[columns].unique())
    names = [wrapped(str(name), 2.0) for name in down]
    heads = [wrapped(str(name), _WIDE - 0.1) for name in across]
    by = " and ".join("swept settings" if each == "grid" else each for each in (rows, columns))
    title = f"How often does poisoning succeed, by {by}?"
    key = (
        "Attack success rate after the last round: median of "
        f"n = {seeds_in_words(map(len, cells.values()))}, below it their range, how often clean "
        "images get the same label (chance), and accuracy. Darker: more often than by chance. "
        "Hatched: nobody poisons."
    )
    picture = new_picture(
        max(max(map(width_of, names)) + 0.2 + len(across) * _WIDE + 2 * MARGIN, 5.6),
        len(down) * _HIGH + max(map(inches, heads)) + 0.1,
        title=title,
        notes=[key],
    )
    axes = picture.subplots()
    axes.set(xlim=(0, len(across)), ylim=(len(down), 0))
    axes.set_box_aspect(len(down) * _HIGH / (len(across) * _WIDE))
    axes.set_anchor("W")
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xticks(np.arange(len(across)) + 0.5, heads)
    axes.set_yticks(np.arange(len(down)) + 0.5, names)
    words = []
    for row, down_name in enumerate(down):
        for column, across_name in enumerate(across):
            if (seeds := cells.get((down_name, across_name))) is not None:
                said = _draw(axes, column, row, seeds)
                words.append(f"{down_name} with {across_name} {said}")
    picture.alt = f"{title} Attack success after the last round: {first_of(words)}."
    return picture


def _draw(axes: Axes, x: int, y: int, seeds: pd.DataFrame) -> str:
    """Draw a cell and return its content in words."""
    rate, chance, accuracy = seeds.median()
    told = f"accuracy {accuracy:.2f}"
    if math.isnan(rate):
        tile = Rectangle((x, y), 1, 1, facecolor="white", edgecolor=LINE, lw=0.5, hatch="////")
        axes.add_patch(tile)
        # A white box, or the hatches would run through the text.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(x + 0.5, y + 0.5, told, ha="center", va="center", size=TINY, bbox=box)
        return f"nobody poisons at {told}"
    above = median(map(success_above_chance, seeds[_RATE], seeds[_CHANCE]))
    colour = to_hex(_COLOURS(max(above, 0.0)))
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", lw=2))
    low, high = seeds[_RATE].min(), seeds[_RATE].max()
    lines = [(f"{rate:.2f}", TEXT + 2)]
    lines += [(f"{low:.2f} to {high:.2f}", TINY)] * (len(seeds) > 1)
    lines += [(f"chance {chance:.2f}", TINY)] * math.isfinite(chance) + [(told, TINY)]
    top = y + 0.5 - sum(inches("x", size) for _, size in lines) / _HIGH / 2
    for text, size in lines:
        weight = "normal" if size == TINY else "bold"
        style: Options = {"size": size, "weight": weight, "color": ink_on(colour)}
        axes.text(x + 0.5, top, text, ha="center", va="top", **style)
        top += inches("x", size) / _HIGH
    by_chance = f" (chance {chance:.2f})" if math.isfinite(chance) else ""
    return f"{rate:.2f}{by_chance} at {told}"
