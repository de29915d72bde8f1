"""Figures of a comparison: against swept settings, against epsilon, and at equal accuracy."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.ticker import FuncFormatter, NullFormatter

from fedlab.comparison.parsing import setting_text
from fedlab.comparison.summary import summary_of, swept_columns
from fedlab.comparison.sweep import COLUMN, OF_DEFENSES, short_names
from fedlab.report.figures.colours import FAINT, LINE, defense_colour, without_settings
from fedlab.report.figures.sheet import (
    TEXT,
    TINY,
    NothingToDraw,
    Options,
    Picture,
    first_of,
    ink_on,
    new_picture,
    styled,
    wrapped,
)
from fedlab.report.tables.defenses import epsilon
from fedlab.report.tables.naming import UNDEFENDED
from fedlab.report.tables.numbers import seeds_in_words

_SHARE = "share of images that leak"
_ABOVE = "PSNR above chance in dB"
_DECADE = 10.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""

LEAST_SPAN = 0.1
"""Least span of the axis of accuracy, so that differences of one image do not fill it."""

_MARKERS = "osD^vPX*<>pdhH8"
_STYLES = ("-", "--", ":", "-.")


class _Panel(NamedTuple):
    """One measure on the vertical axis.

    Attributes:
        label: Its name and unit.
        names: Columns with its value and the ends of its bar.
        log: True for a logarithmic axis.
    """

    label: str
    names: tuple[str, str, str]
    log: bool = False


_LEAKING = _Panel(_SHARE, ("share", "leaking_low", "leaking_high"))
_ACCURACY = _Panel("accuracy after the last round", ("accuracy", "accuracy_min", "accuracy_max"))
_EPSILON = _Panel("epsilon of honest clients", ("epsilon", "epsilon", "epsilon"), log=True)
_SUCCESS = _Panel(
    "attack success rate",
    ("attack_success_rate", "attack_success_rate_min", "attack_success_rate_max"),
)


@styled()
def sweep_figure(frame: pd.DataFrame) -> Picture:
    """Draw what is measured against the swept setting, a curve for each defense (and rule).

    For exactly two swept settings it is a heat map of the leaking share for each defense, with the
    accuracy in the cells. Of more, the first is the horizontal axis, and the others name curves.
    A dashed line is a defense that the setting is none of.

    Args:
        frame: Table of a comparison; see ``fedlab.comparison``.

    Raises:
        NothingToDraw: If nothing is swept.
    """
    table = _table(frame)
    keys = [key for key in swept_columns(table) if table[key].notna().any()]
    if not keys:
        raise NothingToDraw("the comparison sweeps no setting")
    return _heat_maps(table, keys) if len(keys) == 2 else _curves(table, keys)


@styled()
def epsilon_figure(frame: pd.DataFrame) -> Picture:
    """Draw the leaking share and the PSNR above chance against epsilon, a curve for each defense.

    Arms of one defense with other settings are points of one curve. A dashed line is no defense.

    Args:
        frame: Table of a comparison; see ``fedlab.comparison``.

    Raises:
        NothingToDraw: If no attacked arm has a finite epsilon.
    """
    table = _table(frame)
    attacked = table[table["images"] > 0]
    bounded = attacked[np.isfinite(attacked["epsilon"]) & (attacked["epsilon"] > 0)]
    if bounded.empty:
        raise NothingToDraw("no attacked arm has a finite epsilon")
    title = "How much leaks at which epsilon?"
    notes = [
        f"{_seeds(table)} Epsilon: largest over honest clients. Dashed: no defense. {_INTERVAL}"
    ]
    above = _Panel(_ABOVE, ("above_chance", "above_chance_min", "above_chance_max"))
    panels = [_LEAKING, *[above] * _has(bounded, above)]
    picture = new_picture(4.5 * len(panels) + 1.5, 3.6, title=title, notes=notes)
    words = []
    plots = np.atleast_1d(picture.subplots(1, len(panels)))
    for axes, panel in zip(plots, panels, strict=True):
        for place, (name, defense, rows) in enumerate(_families(bounded)):
            ordered, colour = rows.sort_values("epsilon"), defense_colour(defense)
            _curve(axes, ordered["epsilon"], ordered, panel, name, place, colour=colour)
            words += [
                f"{name} {value:.2f} at epsilon {spent:.3g}"
                for spent, value in zip(ordered["epsilon"], ordered[panel.names[0]], strict=True)
                if panel is _LEAKING
            ]
        for value in attacked.loc[attacked["defense"] == UNDEFENDED, panel.names[0]]:
            axes.axhline(value, color=defense_colour(UNDEFENDED), linewidth=1, linestyle="--")
        axes.set(xlabel="epsilon  (more privacy to the left)", ylabel=panel.label)
        _log_axis(axes.xaxis)
        if panel is _LEAKING:
            axes.set_ylim(-0.03, 1.03)
    _legend(picture)
    picture.alt = f"{title} Share of images that leak: {first_of(words)}."
    return picture


@styled()
def accuracy_figure(frame: pd.DataFrame) -> Picture:
    """Draw the smallest leaking share that each defense reaches at an accuracy or a better one.

    Arms of one defense with other settings are points of one curve, so that defenses are compared
    at equal accuracy; other swept settings, such as the size of a batch, have curves of their own.

    Args:
        frame: Table of a comparison; see ``fedlab.comparison``.

    Raises:
        NothingToDraw: If nobody was attacked.
    """
    table = _table(frame)
    attacked = table[table["images"] > 0].dropna(subset=["accuracy"])
    if attacked.empty:
        raise NothingToDraw("nobody was attacked, so nothing can be said about leakage")
    title = "How little leaks at an accuracy, under each defense?"
    notes = [
        "Points: medians over seeds. Lines: the smallest share among the settings of a defense "
        f"with at least this accuracy. {_seeds(table)}"
    ]
    picture = new_picture(8.2, 4.0, title=title, notes=notes)
    axes = picture.subplots()
    words = []
    for place, (name, defense, rows) in enumerate(_families(attacked)):
        colour, marker = defense_colour(defense), _MARKERS[place % len(_MARKERS)]
        style: Options = {"color": colour, "markersize": 5, "label": name}
        axes.plot(rows["accuracy"], rows["share"], marker, **style)
        ordered = rows.sort_values("accuracy", ascending=False)
        best = ordered["share"].cummin()
        axes.step(ordered["accuracy"], best, where="post", color=colour)
        words += [
            f"{name} {share:.2f} at accuracy {accuracy:.2f}"
            for accuracy, share in zip(ordered["accuracy"], best, strict=True)
        ]
    axes.set(xlabel="accuracy after the last round, or better  →", ylabel=f"smallest {_SHARE}")
    axes.set_ylim(-0.03, 1.03)
    _legend(picture)
    picture.alt = f"{title} {first_of(words)}."
    return picture


_INTERVAL = (
    "Bars of the leaking share: 95 % interval over clients and seeds, where there are several; "
    "other bars: smallest to largest over seeds."
)


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    """The summary of a comparison with ``share``, ``epsilon`` and ``name`` of each arm.

    Raises:
        NothingToDraw: If the comparison has no rows.
    """
    if frame.empty:
        raise NothingToDraw("the comparison has no rows, so there is nothing to draw")
    table = summary_of(frame)
    several = table["rule"].nunique() > 1
    table["share"] = table["leaking"] / table["images"].where(table["images"] > 0)
    # Of one client alone nothing is known of the share at others.
    ends = ["leaking_low", "leaking_high"]
    table[ends] = table[ends].where(table["clusters"] > 1)
    table["epsilon"] = [epsilon(line) for _, line in table.iterrows()]
    table["epsilon"] = table["epsilon"].where(np.isfinite(table["epsilon"]))
    table["name"] = table["defense"] + (", " + table["rule"] if several else "")
    return table


def _curves(table: pd.DataFrame, keys: Sequence[str]) -> Picture:
    first, *others = keys
    short = short_names(keys)
    label = short[first]
    panels = [panel for panel in (_LEAKING, _ACCURACY, _EPSILON, _SUCCESS) if _has(table, panel)]
    title = f"What does {label} change?"
    notes = [f"{_seeds(table)} {_INTERVAL}"]
    picture = new_picture(3.6 * len(panels) + 2.0, 3.4, title=title, notes=notes)
    ticks = list(dict.fromkeys(table[first].dropna()))
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in ticks)
    words = []
    for axes, panel in zip(np.atleast_1d(picture.subplots(1, len(panels))), panels, strict=True):
        groups = table.groupby(["name", *others], sort=False, dropna=False)
        for place, (_, rows) in enumerate(groups):
            line = rows.iloc[0]
            own = [key for key in others if pd.notna(line[key])]
            name = " ".join([line["name"], *(f"{short[k]}={setting_text(line[k])}" for k in own)])
            if pd.isna(line[first]):
                value, colour = line[panel.names[0]], defense_colour(line["defense"])
                axes.axhline(value, color=colour, linewidth=1, linestyle="--", label=name)
                continue
            ordered = rows.sort_values(first) if numeric else rows
            x = ordered[first] if numeric else ordered[first].map(ticks.index)
            _curve(axes, x, ordered, panel, name, place, colour=defense_colour(line["defense"]))
            if panel in (_LEAKING, _ACCURACY):
                told = zip(ordered[first], ordered[panel.names[0]], strict=True)
                words += [f"{name} {panel.label} {y:.2f} at {value}" for value, y in told]
        _set_scale(axes, ticks, numeric=numeric)
        axes.set(xlabel=label, ylabel=panel.label)
        if panel.log:
            _log_axis(axes.yaxis)
        elif panel is not _ACCURACY:
            axes.set_ylim(-0.03, 1.03)
        else:
            low, high = axes.get_ylim()
            short_of = max(LEAST_SPAN - (high - low), 0) / 2
            axes.set_ylim(low - short_of, high + short_of)
    _legend(picture)
    picture.alt = f"{title} {first_of(words)}."
    return picture


def _heat_maps(table: pd.DataFrame, keys: Sequence[str]) -> Picture:
    """The leaking share for each pair of values, or the accuracy where nobody is attacked."""
    down, across = (short_names(keys)[key] for key in keys)
    attacked = bool((table["images"] > 0).any())
    measure, what = ("share", _SHARE) if attacked else ("accuracy", "accuracy")
    title = f"What do {down} and {across} change?"
    below = "; below: accuracy" * attacked
    arms = {str(name): arm for name, arm in table.groupby("name", sort=False)}
    rows, columns = (list(dict.fromkeys(table[key].dropna())) for key in keys)
    width = max(0.85 * len(columns) + 1.0, 2.6)
    picture = new_picture(
        max(width * len(arms), 5.6),
        0.55 * len(rows) + 0.8,
        title=title,
        notes=[f"Colour and first number: {what}{below}. {_seeds(table)}"],
    )
    colours, words = colormaps["cividis"].reversed(), []
    plots = np.atleast_1d(picture.subplots(1, len(arms)))
    for axes, (name, arm) in zip(plots, arms.items(), strict=True):
        values, accuracies = (
            np.array(
                [[_cell(arm, keys, (row, column), each) for column in columns] for row in rows]
            )
            for each in (measure, "accuracy")
        )
        axes.pcolormesh(values, cmap=colours, vmin=0, vmax=1, edgecolor="white", linewidth=2)
        axes.set_xticks(np.arange(len(columns)) + 0.5, [setting_text(each) for each in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [setting_text(each) for each in rows])
        axes.set(xlabel=across, ylabel=down, ylim=(len(rows), 0))
        axes.set_title(wrapped(name, width - 0.6, TEXT))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(values):
            if math.isnan(value):
                continue
            text = f"{value:.2f}" + f"\n{accuracies[row, column]:.2f}" * attacked
            style: Options = {"color": ink_on(to_hex(colours(value))), "size": TINY}
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", **style)
            words.append(f"{name} {value:.2f} at {rows[row]} and {columns[column]}")
    picture.alt = f"{title} {what}: {first_of(words)}."
    return picture


def _cell(arm: pd.DataFrame, keys: Sequence[str], values: Sequence[object], name: str) -> float:
    """A measure of an arm at two values of the swept settings; NaN if that run has no result.

    A setting of another defense has every value.
    """
    own = arm[list(keys)]
    here = (own.isna() | (own == list(values))).all(axis=1)
    return float(arm.loc[here, name].iloc[0]) if here.any() else math.nan


def _curve(
    axes: Axes,
    x: pd.Series,
    rows: pd.DataFrame,
    panel: _Panel,
    name: str,
    place: int,
    *,
    colour: str,
) -> None:
    middle, low, high = (rows[each].to_numpy(float) for each in panel.names)
    bars = np.nan_to_num([np.maximum(middle - low, 0), np.maximum(high - middle, 0)])
    axes.errorbar(
        x.to_numpy(float),
        middle,
        yerr=bars,
        color=colour,
        marker=_MARKERS[place % len(_MARKERS)],
        linestyle=_STYLES[place // len(_MARKERS) % len(_STYLES)],
        markersize=5,
        linewidth=1.4,
        elinewidth=0.8,
        label=name,
    )


def _set_scale(axes: Axes, ticks: Sequence[object], *, numeric: bool) -> None:
    """Ticks at the swept values, on a logarithmic axis where they span decades."""
    if not numeric:
        axes.set_xticks(range(len(ticks)), [str(each) for each in ticks])
        return
    values = sorted(float(each) for each in ticks)  # type: ignore[arg-type]
    if values[0] > 0 and values[-1] / values[0] >= _DECADE:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


def _families(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, defense and arms of each curve: one defense, whatever its settings.

    Swept settings that are none of a defense's, such as the size of a batch, have curves of their
    own.
    """
    family = table["defense"].map(without_settings)
    others = [k for k in swept_columns(table) if not k.startswith(f"{COLUMN}{OF_DEFENSES}")]
    others = [key for key in others if table[key].nunique() > 1]
    short = short_names(others)
    keys = [family, table["rule"], *(table[key] for key in others)]
    for (defense, _, *values), rows in table.groupby(keys, sort=False):
        settings = zip(others, values, strict=True)
        words = [f"{short[key]}={setting_text(value)}" for key, value in settings]
        yield " ".join([str(defense), *words]), str(defense), rows


def _log_axis(axis: Axis) -> None:
    """Make an axis logarithmic, with labels that are plain text."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _has(table: pd.DataFrame, panel: _Panel) -> bool:
    return bool(np.isfinite(table[panel.names[0]].astype(float)).any())


def _legend(picture: Picture) -> None:
    """One legend for all plots, beside them, without bars, which would hide the marks."""
    handles, labels = picture.axes[0].get_legend_handles_labels()
    lines = [each.lines[0] if isinstance(each, ErrorbarContainer) else each for each in handles]
    found = dict(zip(labels, lines, strict=True))
    place: Options = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "labelspacing": 0.5}
    picture.axes[-1].legend(found.values(), found.keys(), **place)
    for axes in picture.axes:
        axes.grid(axis="y", color=LINE, linewidth=0.4)
        axes.set_axisbelow(True)
        axes.tick_params(color=FAINT)


def _seeds(table: pd.DataFrame) -> str:
    return f"n = {seeds_in_words(table['seeds'])}."
