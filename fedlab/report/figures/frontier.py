"""The frontier: what each defense costs in accuracy, against how much it hides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from fedlab.comparison.summary import per_seed
from fedlab.metrics.verdict import MARGIN
from fedlab.report.figures.arms import Arm, arms_of, counted
from fedlab.report.figures.colours import FAINT, INK, LINE
from fedlab.report.figures.label_placement import Placed, place_labels
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet, first_of
from fedlab.report.figures.text_layout import SMALL, TEXT, TITLE, line_height, width, wrapped
from fedlab.report.tables.numbers import number

_TITLE = "What does each defense cost in accuracy, and how much still shows?"

_Array = NDArray[np.float64]

# All in inches.
_WIDTH = 8.2
_MARGIN = 0.25
_LEFT = 0.95
_HEIGHTS = (4.2, 5.2, 6.4, 8.0, 10.0)
_LABEL = 2.1


@dataclass(frozen=True)
class _Mark:
    """An arm in numbers; arrays have a value for each seed.

    Attributes:
        leakage: dB above chance; NaN where nothing was attacked, or nothing rebuilt.
        accuracy: After the last round.
        attacked: Whether any image was.
        attacks: How many attacks there were to choose the strongest of.
        epsilon: In words; empty without DP.
    """

    arm: Arm
    leakage: _Array
    accuracy: _Array
    attacked: bool
    attacks: int
    epsilon: str

    @property
    def x(self) -> float:
        """Median leakage over seeds."""
        known = self.leakage[np.isfinite(self.leakage)]
        return float(np.median(known)) if len(known) else math.nan

    @property
    def y(self) -> float:
        """Median accuracy over seeds."""
        return float(np.nanmedian(self.accuracy))

    @property
    def bars(self) -> _Array:
        """``[2, 2, 2]``: across and up, both ends, x and y."""
        left, right = np.nanmin(self.leakage), np.nanmax(self.leakage)
        low, high = np.nanmin(self.accuracy), np.nanmax(self.accuracy)
        return np.array([[[left, self.y], [right, self.y]], [[self.x, low], [self.x, high]]])

    @property
    def label(self) -> list[str]:
        """What stands beside it."""
        whole = self.arm.name + (f", {self.epsilon}" if self.epsilon else "")
        if width(whole, SMALL) <= _LABEL:
            return [whole]
        parts = [self.arm.name, self.epsilon] if self.epsilon else [self.arm.name]
        return [line for part in parts for line in wrapped(part, SMALL, _LABEL)]


def frontier_figure(frame: pd.DataFrame) -> Picture:
    """Accuracy over leakage, a marker for each defense (and rule) at its median over seeds.

    Leakage is the median over attacked clients and rounds of the PSNR above chance, of the attack
    that is strongest on this defense. Bars reach from the smallest seed to the largest.

    Args:
        frame: Of a comparison; see ``fedlab.comparison``.

    Raises:
        NothingToDraw: If there is no row, or no arm in which anything was rebuilt.
    """
    if frame.empty:
        raise NothingToDraw("the comparison has no rows, so there is no frontier")
    attacks = frame.loc[frame["images"] > 0, "attack"].nunique()
    marks = [_mark(arm, runs, attacks) for arm, runs in arms_of(per_seed(frame))]
    shown = [mark for mark in marks if math.isfinite(mark.x)]
    if not shown:
        raise NothingToDraw("nothing was rebuilt in any arm, so nothing can be said about leakage")
    titles = wrapped(_TITLE, TITLE, _WIDTH - 2 * _MARGIN, bold=True)
    notes = wrapped(_note(shown), SMALL, _WIDTH - 2 * _MARGIN)
    absent = _absent(marks)
    top = _MARGIN + len(titles) * line_height(TITLE) + 0.5
    across = _WIDTH - _LEFT - _MARGIN
    low, high = _limits(shown)
    for height in _HEIGHTS:
        scale = np.array([across, height]) / (high - low)
        placed = _placed(shown, low, scale, (across, height))
        if placed.clear:
            break
    below = 0.62 + (len(notes) + len(absent)) * line_height(SMALL) + _MARGIN
    sheet = Sheet(_WIDTH, top + height + below)
    sheet.lines(_MARGIN, _MARGIN, titles, size=TITLE, bold=True)
    axes = sheet.axes(_LEFT, top, across, height)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    _threshold(
        sheet,
        MARGIN,
        f"{MARGIN:g} dB above chance: leaks from here on, if identified",
        low,
        scale,
        top,
        row=0,
    )
    _threshold(sheet, 0.0, "chance", low, scale, top, row=1)
    axes.axvline(MARGIN, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.axvline(0, color=LINE, linewidth=1, linestyle=":", zorder=0)
    for place, mark in enumerate(shown):
        _draw(axes, mark)
        box, point = placed.boxes[place], _inches(np.array([mark.x, mark.y]), low, scale)
        if placed.far(place, point):
            start, end = point / scale + low, placed.ends[place] / scale + low
            axes.plot([start[0], end[0]], [start[1], end[1]], color=FAINT, linewidth=0.6, zorder=2)
        lines = mark.label
        sheet.lines(_LEFT + box[0], top + height - box[3] + 0.01, lines, size=SMALL)
        for text in sheet.figure.texts[-len(lines) :]:  # where bars cannot be avoided
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    sheet.text(
        _LEFT + across / 2,
        top + height + 0.28,
        "←  nearer to chance, or below      PSNR above chance in dB      shows more  →",
        size=TEXT,
        colour=FAINT,
        align=("center", "top"),
    )
    axes.set_ylabel(
        f"accuracy after round {int(frame['round'].max())}      better  →",
        color=FAINT,
        fontsize=TEXT,
    )
    y = sheet.lines(_MARGIN, top + height + 0.55, absent, size=SMALL)
    sheet.lines(_MARGIN, y, notes, size=SMALL, colour=FAINT)
    sheet.figure.alt = _in_words(shown, absent)
    return sheet.figure


def _draw(axes: Axes, mark: _Mark) -> None:
    """An arm at its medians, with bars from its smallest seed to its largest, and every seed."""
    colour, marker = mark.arm.colour, mark.arm.marker
    axes.scatter(
        mark.leakage, mark.accuracy, s=14, marker=marker, color=colour, alpha=0.45, linewidth=0
    )
    axes.errorbar(
        mark.x,
        mark.y,
        xerr=_reach(mark.leakage, mark.x),
        yerr=_reach(mark.accuracy, mark.y),
        marker=marker,
        markersize=9,
        color=colour,
        markeredgecolor="white",
        linewidth=1.2,
        zorder=3,
        label=mark.arm.name,
    )


def _mark(arm: Arm, runs: pd.DataFrame, attacks: int) -> _Mark:
    return _Mark(
        arm,
        runs["above_chance"].to_numpy(dtype=np.float64),
        runs["accuracy"].to_numpy(dtype=np.float64),
        attacked=bool(runs["images"].any()),
        attacks=attacks,
        epsilon=_epsilon(runs),
    )


def _epsilon(runs: pd.DataFrame) -> str:
    """Of honest clients, and of attacked ones where theirs is another; empty without any."""
    honest, attacked = (
        _told(runs[f"{whose}epsilon_protected"].max(), runs[f"{whose}epsilon_total"].max())
        for whose in ("", "attacked_")
    )
    unit = " of one client" if (runs["unit"] == "client").any() else ""
    if not honest or not attacked or honest == attacked:
        return f"epsilon {honest or attacked}{unit}" if honest or attacked else ""
    return f"epsilon {honest}, attacked {attacked}{unit}"


def _told(protected: float, total: float) -> str:
    """That of all rounds, or of protected ones if that is infinite."""
    if math.isnan(protected):
        return ""
    return number(total) if math.isfinite(total) else f"{number(protected)} in protected rounds"


def _limits(marks: Sequence[_Mark]) -> tuple[_Array, _Array]:
    """Corners of the plot: everything in it with room to spare, chance and the margin too."""
    x = np.concatenate([*(mark.leakage for mark in marks), [0.0, MARGIN]])
    y = np.concatenate([mark.accuracy for mark in marks])
    low = np.array([np.nanmin(x), np.nanmin(y)])
    high = np.array([np.nanmax(x), np.nanmax(y)])
    spare = np.maximum(0.09 * (high - low), [0.5, 0.01])
    return low - spare, high + spare


def _placed(
    marks: Sequence[_Mark],
    low: _Array,
    scale: _Array,
    room: tuple[float, float],
) -> Placed:
    points = _inches(np.array([[mark.x, mark.y] for mark in marks]), low, scale)
    seeds = np.concatenate([np.stack([mark.leakage, mark.accuracy], axis=1) for mark in marks])
    seeds = _inches(seeds[np.isfinite(seeds).all(1)], low, scale)
    sizes = np.array(
        [
            [
                max(width(line, SMALL) for line in mark.label) + 0.02,
                len(mark.label) * line_height(SMALL),
            ]
            for mark in marks
        ]
    )
    bars = _inches(np.concatenate([mark.bars for mark in marks]), low, scale).reshape(-1, 4)
    # Vertical lines are crossed by fewer labels if these take them for bars as well.
    thresholds = [(value - low[0]) * scale[0] for value in (0.0, MARGIN)]
    bars = np.concatenate([bars, [[x, 0, x, room[1]] for x in thresholds]])
    return place_labels(points, sizes, others=seeds, bars=bars, room=room)


def _inches(values: _Array, low: _Array, scale: _Array) -> _Array:
    return np.asarray((values - low) * scale)


def _threshold(
    sheet: Sheet,
    value: float,
    text: str,
    low: _Array,
    scale: _Array,
    top: float,
    *,
    row: int,
) -> None:
    """Name a vertical line above the plot, beginning at it or, where that is too near, ending."""
    x = _LEFT + float((value - low[0]) * scale[0])
    fits = x + width(text, SMALL) <= _WIDTH - _MARGIN
    sheet.text(
        x,
        top - 0.06 - (1 - row) * line_height(SMALL),
        text,
        size=SMALL,
        colour=FAINT if row else INK,
        align=("left" if fits else "right", "bottom"),
    )


def _reach(values: _Array, middle: float) -> list[list[float]]:
    return [[middle - float(np.nanmin(values))], [float(np.nanmax(values)) - middle]]


def _absent(marks: Sequence[_Mark]) -> list[str]:
    """Arms without a place on the plot, and why."""
    lines = []
    for reason, attacked in (("not attacked", False), ("nothing rebuilt", True)):
        names = [
            f"{mark.arm.name} (accuracy {mark.y:.2f})"
            for mark in marks
            if not math.isfinite(mark.x) and mark.attacked == attacked
        ]
        if names:
            text = f"{reason}: {'; '.join(names)}"
            lines += wrapped(text, SMALL, _WIDTH - 2 * _MARGIN)
    return lines


def _note(marks: Sequence[_Mark]) -> str:
    n = counted(len(mark.accuracy) for mark in marks)
    spread = (
        f"Large: median of {n}; bars: smallest to largest; small: every seed."
        if max(len(mark.accuracy) for mark in marks) > 1
        else f"{n}: no spread can be shown."
    )
    attacks = max(mark.attacks for mark in marks)
    strongest = f", of the strongest of {attacks} attacks on each defense" if attacks > 1 else ""
    whose = " Epsilon: largest over honest clients, hiding one example unless said."
    return (
        f"{spread} PSNR above chance: median over attacked clients and rounds{strongest}."
        + whose * any(mark.epsilon for mark in marks)
    )


def _in_words(marks: Sequence[_Mark], absent: Sequence[str]) -> str:
    arms = first_of(
        f"{mark.arm.name} {mark.x:+.1f} dB above chance at accuracy {mark.y:.2f}"
        + (f" ({mark.epsilon})" if mark.epsilon else "")
        for mark in sorted(marks, key=lambda mark: mark.x)
    )
    apart = f" {' '.join(absent)}." if absent else ""
    return f"{_TITLE} Medians over seeds: {arms}.{apart}"
