"""Figure of an attack's course: cost and PSNR against the iteration, and images on the way."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor

from fedlab.evaluation.attack_trace import AttackTrace
from fedlab.metrics.images import match
from fedlab.report.figures.colours import FAINT, INK, LINE
from fedlab.report.figures.image_strips import CELL, Block, Strip, draw_block
from fedlab.report.figures.sheet import NothingToDraw, Options, Picture, new_picture, styled

_TITLE = "How does the attack get there?"

_LEAST_WIDTH, _PANEL = 7.6, 1.5
"""Least width of the figure and height of a panel in inches."""

IMAGES, ROWS = 6, 4
"""Largest number of looks whose images are shown, and of images of a batch."""


@styled()
def convergence_figure(
    trace: AttackTrace, *, truth: Tensor | None = None, chance: Sequence[float] | None = None
) -> Picture:
    """Draw the matching cost, the PSNR if truth is given, and images of the best restart.

    The restart that ends with the lowest cost is drawn dark, others grey. Both axes of the cost are
    logarithmic; of a batch the first four images are shown.

    Args:
        trace: Recorded looks at an attack.
        truth: True images ``[n, channels, height, width]``, pixels in [0, 1].
        chance: Chance PSNR of each of them in dB, drawn at the median: ``chance_psnr`` of the rows
            of a ``Leak`` whose target is ``original``.

    Raises:
        NothingToDraw: If nothing was recorded.
        ValueError: If the true images do not have the shape of the rebuilt ones, or ``chance`` does
            not have a value for each of them.
    """
    if chance is not None and len(chance) != (0 if truth is None else len(truth)):
        raise ValueError(
            f"chance has {len(chance)} values, and there must be one for each true image "
            f"({'none is given' if truth is None else len(truth)})"
        )
    if not trace.looks:
        raise NothingToDraw("the trace saw no attack: hand it over as watch=trace")
    table = trace.table(truth)
    ends = table.groupby("restart")["cost"].last().fillna(math.inf)
    best = int(ends.index.to_numpy()[ends.argmin()])
    own = table[table["restart"] == best]
    shown = own.index[np.linspace(0, len(own) - 1, min(len(own), IMAGES)).round().astype(int)]
    columns = {f"{trace.looks[at].iteration:,}": trace.looks[at].images for at in shown}
    scores: list[Tensor] = []
    if truth is not None:
        _, order = match(truth.detach().cpu(), trace.looks[own.index[-1]].images)
        columns = {name: images[order] for name, images in columns.items()}
        columns = {"true": truth.detach(), **columns}
        qualities = trace.quality(truth)
        scores = [qualities[at] for at in shown]
    strips = [
        Strip(
            "" if row else "images",
            [images[row] for images in columns.values()],
            below=[[], *([(_decibels(float(each[row])), False)] for each in scores)],
        )
        for row in range(min(len(trace.looks[0].images), ROWS))
    ]
    block = Block(strips, list(columns))
    names = {"cost": "matching cost", "psnr": "PSNR (dB)"}
    panels = [name for name in names if name in table]
    heights = [*[_PANEL] * len(panels), block.height * CELL]
    page = max(_LEAST_WIDTH, len(columns) * block.step * CELL + 1.2)
    note = _note(trace, len(ends))
    picture = new_picture(page, sum(heights) + 0.8, title=_TITLE, notes=[note])
    *curves, images = picture.subplots(len(panels) + 1, height_ratios=heights)
    # A cost of 0 in float32 has no place on a logarithmic axis.
    table["cost"] = table["cost"].where(table["cost"] > 0)
    for axes, name in zip(curves, panels, strict=True):
        for restart in sorted(ends.index, key=lambda each: each == best):
            rows = table[table["restart"] == restart]
            colour, width = (INK, 1.5) if restart == best else (LINE, 1)
            style: Options = {"color": colour, "linewidth": width, "marker": "o", "markersize": 3}
            label = f"restart {restart}"
            axes.plot(rows["iteration"], rows[name], label=label, **style)
        axes.set(xscale="log", ylabel=names[name])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
    if table["cost"].notna().any():
        curves[0].set_yscale("log")
        decades = math.log10(table["cost"].max() / table["cost"].min())
        curves[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
        curves[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        curves[0].yaxis.set_minor_locator(NullLocator())
    usual = None if chance is None else float(np.median(chance))
    if usual is not None:
        curves[1].axhline(usual, color=FAINT, linewidth=1, linestyle="--", label="chance", zorder=0)
        at: Options = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        curves[1].annotate(f"chance {usual:.1f}", (1, usual), (0, 2), color=FAINT, ha="right", **at)
    curves[-1].set_xlabel("iteration")
    picture.align_ylabels()
    draw_block(images, block, units=(page - 1.2) / CELL)
    picture.alt = _in_words(own, len(ends), usual)
    return picture


def _decibels(value: float) -> str:
    return "no image" if math.isnan(value) else f"{value:.1f} dB"


def _note(trace: AttackTrace, restarts: int) -> str:
    images = len(trace.looks[0].images)
    parts = {
        f"Dark: the restart with the lowest cost, of {restarts}; grey: the others.": restarts > 1,
        f"Images: the first {ROWS} of {images}.": images > ROWS,
        "PSNR: median over images.": images > 1,
        "Costs that are 0 in single precision are not drawn.": any(
            look.cost <= 0 for look in trace.looks
        ),
    }
    return " ".join(text for text, applies in parts.items() if applies)


def _in_words(course: pd.DataFrame, restarts: int, chance: float | None) -> str:
    first, last = course.iloc[0], course.iloc[-1]
    text = (
        f"{_TITLE} From iteration {first['iteration']:.0f} to {last['iteration']:.0f} the matching "
        f"cost goes from {first['cost']:.2g} to {last['cost']:.2g}"
    )
    if "psnr" in course:
        text += f", PSNR from {first['psnr']:.1f} to {last['psnr']:.1f} dB"
    if chance is not None:
        text += f" beside {chance:.1f} dB of chance"
    return text + (f"; best of {restarts} restarts." if restarts > 1 else ".")
