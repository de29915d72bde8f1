"""Frontier of a comparison: accuracy under each defense against how much still leaks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from fedlab.comparison.summary import per_seed
from fedlab.metrics.verdict import MARGIN
from fedlab.report.figures.colours import FAINT, INK, LINE, defense_colour
from fedlab.report.figures.sheet import (
    NothingToDraw,
    Options,
    Picture,
    first_of,
    inches,
    new_picture,
    styled,
    width_of,
    wrapped,
)
from fedlab.report.tables.numbers import number, seeds_in_words

_TITLE = "What does each defense cost in accuracy, and how much still shows?"
_MARGIN = f"{MARGIN:g} dB above chance: leaks from here on, if identified"

_WIDTH, _HEIGHT, _LABEL = 9.0, 4.6, 2.1
"""Width of the figure, least height of the plot, and width of a name, in inches."""


_STARS = [(corners, 1, angle) for angle in (0, 30) for corners in (4, 3, 6, 8)]
_MARKERS: list[str | tuple[int, int, int]] = [*"osD^vPX*<>pdhH8", *_STARS]
"""Markers of 23 arms."""


class _Mark(NamedTuple):
    """A defense under one aggregation rule, and its runs.

    Attributes:
        name: Label of the defense, and of the rule where the comparison has several.
        style: Marker of the arm and colour of the defense.
        runs: Rows of ``per_seed``, of which ``above_chance`` is NaN if nothing was rebuilt.
        epsilon: Epsilon in words; empty without DP.
    """

    name: str
    style: Options
    runs: pd.DataFrame
    epsilon: str

    @property
    def x(self) -> float:
        """Median leakage over seeds in dB above chance."""
        return float(self.runs["above_chance"].median())

    @property
    def y(self) -> float:
        """Median accuracy over seeds after the last round."""
        return float(self.runs["accuracy"].median())

    @property
    def identified(self) -> float:
        """Mean share of images that are identified in their pool."""
        return float(self.runs["identified"].mean())

    @property
    def ceiling(self) -> float:
        """Mean of what that share can be at most; 1 if nothing is certified."""
        found = float(self.runs["ceiling_identified"].mean())
        return 1.0 if math.isnan(found) else found

    @property
    def label(self) -> str:
        """Name and epsilon, in lines of limited width."""
        whole = ", ".join(filter(None, (self.name, self.epsilon)))
        if width_of(whole) <= _LABEL:
            return whole
        return "\n".join(wrapped(each, _LABEL) for each in (self.name, self.epsilon) if each)


@styled()
def frontier_figure(frame: pd.DataFrame) -> Picture:
    """Draw accuracy over leakage, a marker for each defense (and rule) at its median over seeds.

    Leakage is the median over attacked clients and rounds of the PSNR above chance, of the attack
    that is strongest on this defense. Bars reach from the smallest seed to the largest. The legend
    names every arm by its colour and marker, with its epsilon. Where privacy ledgers certify a
    ceiling, a second plot shows the share of images identified, and shades what is out of reach.

    Args:
        frame: Table of a comparison; see ``fedlab.comparison``.

    Raises:
        NothingToDraw: If there is no row, or no arm in which anything was rebuilt.
    """
    if frame.empty:
        raise NothingToDraw("the comparison has no rows, so there is no frontier")
    marks = _marks(per_seed(frame))
    shown = [mark for mark in marks if math.isfinite(mark.x)]
    if not shown:
        raise NothingToDraw("nothing was rebuilt in any arm, so nothing can be said about leakage")
    absent = _absent(marks)
    notes = [*absent, _note(shown, frame.loc[frame["images"] > 0, "attack"].nunique())]
    picture = _draw(shown, notes, int(frame["round"].max()))
    words = first_of(
        f"{mark.name} {mark.x:+.1f} dB above chance at accuracy {mark.y:.2f}"
        + (f" ({mark.epsilon})" if mark.epsilon else "")
        for mark in sorted(shown, key=lambda mark: mark.x)
    )
    apart = f" {' '.join(absent)}." if absent else ""
    limits = first_of(
        f"{mark.name} {mark.identified:.0%} of images identified, at most {mark.ceiling:.0%}"
        for mark in shown
        if mark.ceiling < 1
    )
    apart += f" Out of reach of any attack: {limits}." if limits else ""
    picture.alt = f"{_TITLE} Medians over seeds: {words}.{apart}"
    return picture


def _marks(runs: pd.DataFrame) -> list[_Mark]:
    several = runs["rule"].nunique() > 1
    swept = runs["grid"].nunique() > 1
    marks: list[_Mark] = []
    for arm, rows in runs.groupby(["defense", "rule", "grid"], sort=False):
        defense, rule, point = map(str, arm)
        name = ", ".join([defense, *[rule] * several, *[point] * swept])
        marker = _MARKERS[len(marks) % len(_MARKERS)]
        style: Options = {"marker": marker, "color": defense_colour(defense)}
        marks.append(_Mark(name, style, rows, _epsilon(rows)))
    return marks


def _epsilon(runs: pd.DataFrame) -> str:
    """Epsilon of honest clients, and of attacked ones where theirs differs, in words."""
    honest, attacked = (
        _told(runs[f"{whose}epsilon_protected"].max(), runs[f"{whose}epsilon_total"].max())
        for whose in ("", "attacked_")
    )
    unit = " of one client" if (runs["unit"] == "client").any() else ""
    if not honest or not attacked or honest == attacked:
        return f"epsilon {honest or attacked}{unit}" if honest or attacked else ""
    return f"epsilon {honest}, attacked {attacked}{unit}"


def _told(protected: float, total: float) -> str:
    """Epsilon of all rounds, or of protected ones if that is infinite."""
    if math.isnan(protected):
        return ""
    return number(total) if math.isfinite(total) else f"{number(protected)} in protected rounds"


def _draw(marks: Sequence[_Mark], notes: Sequence[str], last: int) -> Picture:
    names = "\n".join(mark.label for mark in marks)
    height = max(_HEIGHT, 1.2 * inches(names) + 1)
    certified = [mark for mark in marks if mark.ceiling < 1]
    rows = [wrapped(mark.name, _LABEL) for mark in marks]
    strip = 1.15 * max(map(inches, rows)) * len(rows) + 0.5 if certified else 0.0
    picture = new_picture(_WIDTH, height + strip, title=_TITLE, notes=notes)
    if certified:
        axes, below = picture.subplots(2, 1, height_ratios=[height, strip])
        _draw_identified(below, marks, rows)
    else:
        axes = picture.subplots()
    axes.set_xlabel("←  nearer to chance, or below      PSNR above chance in dB      shows more  →")
    axes.set_ylabel(f"accuracy after round {last}      better  →")
    axes.margins(0.12)
    lines = [
        axes.axvline(0, color=LINE, linewidth=1, linestyle=":", zorder=0),
        axes.axvline(MARGIN, color=FAINT, linewidth=1, linestyle="--", zorder=0),
    ]
    for mark in marks:
        leakage, accuracy = mark.runs["above_chance"], mark.runs["accuracy"]
        axes.scatter(leakage, accuracy, s=14, alpha=0.45, linewidth=0, **mark.style)
        axes.errorbar(
            mark.x,
            mark.y,
            xerr=[[mark.x - leakage.min()], [leakage.max() - mark.x]],
            yerr=[[mark.y - accuracy.min()], [accuracy.max() - mark.y]],
            markersize=9,
            markeredgecolor="white",
            markeredgewidth=0.6,  # a star would not be left of more
            linewidth=1.2,
            zorder=3,
            label=mark.name,
            **mark.style,
        )
    labels = ["chance", wrapped(_MARGIN, _LABEL), *(mark.label for mark in marks)]
    place: Options = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "labelspacing": 0.5}
    # The lines of the bars alone, which would hide the marks.
    drawn = [container.lines[0] for container in axes.containers]
    axes.legend([*lines, *drawn], labels, **place)
    return picture


def _draw_identified(axes: Axes, marks: Sequence[_Mark], names: Sequence[str]) -> None:
    """Share of images that each arm's attack identified, and what no attack reaches."""
    for place, mark in enumerate(marks):
        if mark.ceiling < 1:
            out = 1 - mark.ceiling
            axes.barh(place, out, 0.8, left=mark.ceiling, color=FAINT, alpha=0.25, linewidth=0)
            axes.plot([mark.ceiling] * 2, [place - 0.4, place + 0.4], color=FAINT, linewidth=1.5)
        axes.plot(
            mark.identified,
            place,
            markersize=8,
            markeredgecolor="white",
            markeredgewidth=0.5,
            **mark.style,
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(len(marks) - 0.4, -0.6))
    axes.yaxis.tick_right()  # below the legend, so that both plots keep their width
    axes.set_yticks(range(len(marks)), names, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of images identified in their pool; shaded: out of reach of any attack")


def _absent(marks: Sequence[_Mark]) -> list[str]:
    """Arms without a place on the plot, and why."""
    lines = []
    for reason, attacked in (("not attacked", False), ("nothing rebuilt", True)):
        names = [
            f"{mark.name} (accuracy {mark.y:.2f})"
            for mark in marks
            if not math.isfinite(mark.x) and mark.runs["images"].any() == attacked
        ]
        if names:
            lines.append(f"{reason}: {'; '.join(names)}")
    return lines


def _note(marks: Sequence[_Mark], attacks: int) -> str:
    n = f"n = {seeds_in_words(len(mark.runs) for mark in marks)}"
    spread = f"{n}: no spread can be shown."
    if max(len(mark.runs) for mark in marks) > 1:
        spread = f"Large: median of {n}; bars: smallest to largest; small: every seed."
    strongest = f", of the strongest of {attacks} attacks on each defense" if attacks > 1 else ""
    whose = " Epsilon: largest over honest clients, hiding one example unless said."
    return (
        f"{spread} PSNR above chance: median over attacked clients and rounds{strongest}."
        + whose * any(mark.epsilon for mark in marks)
    )
