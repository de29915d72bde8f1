"""How an attack got to its images: cost and PSNR over the iterations, and images on the way."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator
from torch import Tensor

from attacks.reconstruction.watch import Progress
from fedlab.metrics.images import match
from fedlab.report.figures.colours import FAINT, INK, LINE
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet
from fedlab.report.figures.text_layout import SMALL, TEXT, TITLE, line_height, width, wrapped

if TYPE_CHECKING:
    from fedlab.evaluation.attack_trace import AttackTrace

_TITLE = "How does the attack get there?"

# All in inches.
_WIDTH = 7.6
_MARGIN = 0.25
_LEFT = 0.95
_PANEL = 1.5
_BETWEEN = 0.2
_GAP = 0.08

IMAGES, ROWS = 6, 4
"""Looks whose images are shown, and images of a batch."""


def convergence_figure(
    trace: "AttackTrace", *, truth: Tensor | None = None, chance: Sequence[float] | None = None
) -> Picture:
    """Matching cost, PSNR if truth is given, and below them images of the best restart.

    The restart that ends with the lowest cost is drawn dark, others grey. Both axes of the cost are
    logarithmic; of a batch the first four images are shown.

    Args:
        trace: What was seen of an attack.
        truth: ``[n, channels, height, width]``, the true images, pixels in [0, 1].
        chance: dB of each of them that guessing reaches, drawn in grey at the median: the
            ``chance_psnr`` of a leak's rows, ``[row.chance_psnr for row in leak.rows if
            row.target == "original"]``.

    Raises:
        NothingToDraw: If nothing was seen.
        ValueError: If the true images are not of the rebuilt ones' shape, or ``chance`` does not
            have a value for each of them.
    """
    if chance is not None and len(chance) != (0 if truth is None else len(truth)):
        raise ValueError(
            f"chance has {len(chance)} values, and there must be one for each true image "
            f"({'none is given' if truth is None else len(truth)})"
        )
    restarts: dict[int, list[int]] = defaultdict(list)
    for place, look in enumerate(trace.looks):
        restarts[look.restart].append(place)
    if not restarts:
        raise NothingToDraw("the trace saw no attack: hand it over as watch=trace")
    best = min(restarts, key=lambda restart: _final(trace.looks, restarts[restart]))
    quality = None if truth is None else trace.quality(truth)
    mid = None if quality is None else [float(torch.quantile(each, 0.5)) for each in quality]
    usual = None if chance is None else float(np.median(chance))
    shown = _chosen(restarts[best])
    looks = [trace.looks[place] for place in shown]
    images = [look.images for look in looks]
    if truth is not None:
        truth = truth.detach().cpu()
        _, order = match(truth, trace.looks[restarts[best][-1]].images)
        images = [each[order] for each in images]
    rows = min(len(images[0]), ROWS)
    side = min((_WIDTH - _LEFT - _MARGIN + _GAP) / (IMAGES + 1) - _GAP, 0.95)
    tall = side * images[0].shape[2] / images[0].shape[3]
    panels = 1 + (mid is not None)
    titles = wrapped(_TITLE, TITLE, _WIDTH - 2 * _MARGIN, bold=True)
    notes = wrapped(_note(trace.looks, len(restarts)), SMALL, _WIDTH - 2 * _MARGIN)
    top = _MARGIN + len(titles) * line_height(TITLE) + 0.12
    strip = top + panels * (_PANEL + _BETWEEN) - _BETWEEN + 0.75
    scores = line_height(SMALL) + 0.03 if quality is not None else 0.0
    height = (
        strip + rows * (tall + scores + _GAP) + 0.05 + len(notes) * line_height(SMALL) + _MARGIN
    )
    sheet = Sheet(_WIDTH, height)
    sheet.lines(_MARGIN, _MARGIN, titles, size=TITLE, bold=True)
    for panel in range(panels):
        y = top + panel * (_PANEL + _BETWEEN)
        axes = sheet.axes(_LEFT, y, _WIDTH - _LEFT - _MARGIN, _PANEL)
        # What is 0 in float32 has no place on a logarithmic axis.
        costs = [look.cost if look.cost > 0 else math.nan for look in trace.looks]
        values = mid if panel and mid is not None else costs
        _curves(axes, trace.looks, values, restarts, best, shown)
        if panel and usual is not None:
            _line(sheet, axes, usual, y)
        axes.set_ylabel("PSNR (dB)" if panel else "matching cost", color=FAINT, fontsize=TEXT)
        axes.yaxis.set_label_coords(-0.6 / (_WIDTH - _LEFT - _MARGIN), 0.5)
        if not panel and not all(map(math.isnan, costs)):
            axes.set_yscale("log")
            decades = math.log10(np.nanmax(costs) / np.nanmin(costs))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelbottom=panel == panels - 1)
    axes.set_xlabel("iteration", color=FAINT, fontsize=TEXT)
    named = [*([("true", truth)] if truth is not None else [])]
    named += [(f"{look.iteration:,}", each) for look, each in zip(looks, images, strict=True)]
    for column, (name, batch) in enumerate(named):
        x = _LEFT + column * (side + _GAP)
        sheet.text(x + side / 2, strip - 0.04, name, size=SMALL, align=("center", "bottom"))
        for row in range(rows):
            y = strip + row * (tall + scores + _GAP)
            sheet.image(x, y, side, tall, batch[row])
            if quality is not None and (truth is None or column):
                value = float(quality[shown[column - 1]][row])
                sheet.text(
                    x + side / 2,
                    y + tall + 0.03,
                    "no image" if math.isnan(value) else f"{value:.1f} dB",
                    size=SMALL,
                    colour=FAINT,
                    align=("center", "top"),
                )
    sheet.text(
        _MARGIN, strip + tall / 2, "images", size=TEXT, colour=FAINT, align=("left", "center")
    )
    sheet.lines(
        _MARGIN, height - _MARGIN - len(notes) * line_height(SMALL), notes, size=SMALL, colour=FAINT
    )
    sheet.figure.alt = _in_words(trace.looks, restarts, best, mid, usual)
    return sheet.figure


def _final(looks: Sequence[Progress], places: Sequence[int]) -> float:
    cost = looks[places[-1]].cost
    return math.inf if math.isnan(cost) else cost


def _chosen(places: Sequence[int]) -> list[int]:
    """So many looks, evenly by their order, from the first to the last."""
    if len(places) <= IMAGES:
        return list(places)
    step = (len(places) - 1) / (IMAGES - 1)
    return [places[round(each * step)] for each in range(IMAGES)]


def _curves(
    axes: Axes,
    looks: Sequence[Progress],
    values: Sequence[float],
    restarts: dict[int, list[int]],
    best: int,
    shown: Sequence[int],
) -> None:
    for restart, places in sorted(restarts.items(), key=lambda each: each[0] == best):
        axes.plot(
            [looks[place].iteration for place in places],
            [values[place] for place in places],
            color=INK if restart == best else LINE,
            linewidth=1.5 if restart == best else 1,
            marker="o",
            markersize=3,
            label=f"restart {restart}",
        )
    axes.set_xscale("log")
    low, high = map(math.log, axes.get_xlim())
    inches = axes.get_position().width * _WIDTH / (high - low)
    ticks: list[int] = []
    for iteration in sorted((looks[place].iteration for place in shown), reverse=True):
        # The last is always named, and those before it where their names fit.
        room = width(f" {iteration:,} ", SMALL)
        if not ticks or (math.log(ticks[-1]) - math.log(iteration)) * inches > room:
            ticks.append(iteration)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())


def _line(sheet: Sheet, axes: Axes, chance: float, top: float) -> None:
    """What guessing reaches, named above the line at the right, or below it at the top edge."""
    axes.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label="chance", zorder=0)
    low, high = axes.get_ylim()
    height = top + (1 - (chance - low) / (high - low)) * _PANEL
    above = height - line_height(SMALL) >= top
    sheet.text(
        _WIDTH - _MARGIN,
        height - 0.02 if above else height + 0.02,
        f"chance {chance:.1f}",
        size=SMALL,
        colour=FAINT,
        align=("right", "bottom" if above else "top"),
    )


def _note(looks: Sequence[Progress], restarts: int) -> str:
    parts = []
    images = len(looks[0].images)
    if restarts > 1:
        parts.append(f"Dark: the restart with the lowest cost, of {restarts}; grey: the others.")
    if images > ROWS:
        parts.append(f"Images: the first {ROWS} of {images}.")
    if images > 1:
        parts.append("PSNR: median over images.")
    if any(look.cost <= 0 for look in looks):
        parts.append("Costs that are 0 in single precision are not drawn.")
    return " ".join(parts)


def _in_words(
    looks: Sequence[Progress],
    restarts: dict[int, list[int]],
    best: int,
    quality: Sequence[float] | None,
    chance: float | None,
) -> str:
    first, last = restarts[best][0], restarts[best][-1]
    text = (
        f"{_TITLE} From iteration {looks[first].iteration} to {looks[last].iteration} the matching "
        f"cost goes from {looks[first].cost:.2g} to {looks[last].cost:.2g}"
    )
    if quality is not None:  # of the same restart
        text += f", PSNR from {quality[first]:.1f} to {quality[last]:.1f} dB"
    if chance is not None:
        text += f" beside {chance:.1f} dB of chance"
    return text + (f"; best of {len(restarts)} restarts." if len(restarts) > 1 else ".")
