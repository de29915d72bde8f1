"""Which share of the sampled clients ran each defense, as bands over the rounds."""

from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fedlab.report.figures.colours import LINE, OTHER_COLOUR, defense_colour, ink_on
from fedlab.report.figures.text_layout import SMALL, font, line_height, width
from fedlab.report.tables.naming import OPEN, UNDEFENDED, named

NOTHING = "sent nothing"
"""What clients that declined are called."""

_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
"""Combinations of defenses, which share a colour."""


@dataclass(frozen=True)
class Band:
    """What some clients ran.

    Attributes:
        name: Names joined by ``+``, ``open``, or ``sent nothing``.
        share: ``[rounds]``, of the sampled clients, in [0, 1].
        below: ``[rounds]``, the shares of all bands under it.
        colour: Of the defense.
        hatch: Matplotlib's code.
    """

    name: str
    share: NDArray[np.float64]
    below: NDArray[np.float64]
    colour: str
    hatch: str


def bands_of(clients: pd.DataFrame) -> list[Band]:
    """The bands from the lowest up: open clients, then defenses as they first appear.

    Args:
        clients: The table ``clients`` of a run.
    """
    declined = ~clients["status"].isin(["ok", "refused"])
    ran = clients["defenses"].map(named).mask(declined, NOTHING)
    counts = pd.crosstab(clients["round"], ran)
    counts = counts.reindex(range(1, int(clients["round"].max()) + 1), fill_value=0)
    totals = counts.sum(axis=1).clip(lower=1)
    names = sorted(dict.fromkeys(ran), key=lambda name: (name != OPEN, name == NOTHING))
    hatches = cycle(_HATCHES)
    below = np.zeros(len(counts))
    bands = []
    for name in names:
        colour = LINE if name == NOTHING else defense_colour(UNDEFENDED if name == OPEN else name)
        share = (counts[name] / totals).to_numpy(dtype=np.float64)
        hatch = next(hatches) if colour == OTHER_COLOUR else ""
        bands.append(Band(name, share, below, colour, hatch))
        below = below + share
    return bands


def draw_bands(axes: Axes, bands: list[Band], room: tuple[float, float]) -> list[Band]:
    """Draw the bands, named where a name fits.

    Args:
        axes: Whose x is the round.
        bands: From the lowest up.
        room: Width and height of the axes in inches.

    Returns:
        Those whose name did not fit.
    """
    left, right = axes.get_xlim()
    edges = np.arange(len(bands[0].share) + 1) + 0.5
    unnamed = []
    for band in bands:
        axes.stairs(
            band.below + band.share,
            edges,
            baseline=band.below,
            fill=True,
            facecolor=band.colour,
            edgecolor="white",
            linewidth=0.8,
            hatch=band.hatch,
            label=band.name,
        )
        needed = (width(band.name, SMALL) + 0.1) * (right - left) / room[0]
        spots = _spots(band, needed, 1.15 * line_height(SMALL) / room[1], 0, len(band.share))
        if not spots:
            unnamed.append(band)
        for x, y in spots:
            axes.text(
                x,
                y,
                band.name,
                ha="center",
                va="center",
                color=ink_on(band.colour),
                fontproperties=font(SMALL),
                parse_math=False,
                # Neither hatches nor the marks of toggles run through a name.
                bbox={"facecolor": band.colour, "edgecolor": "none", "pad": 1},
                zorder=4,
            )
    return unnamed


def _spots(
    band: Band, rounds: float, share: float, start: int, stop: int
) -> list[tuple[float, float]]:
    """Middles of the parts of a band that a name of so many rounds and share fits in.

    The widest part comes first, then those at its left and right.
    """
    widest, spot, part = rounds, None, (0, 0)
    for first in range(start, stop):
        low, high = 0.0, 1.0
        for last in range(first, stop):
            low = max(low, band.below[last])
            high = min(high, band.below[last] + band.share[last])
            if high - low < share:
                break
            if last - first + 1 > widest:
                widest, part = last - first + 1.0, (first, last)
                spot = (first + last) / 2 + 1, (low + high) / 2
    if spot is None:
        return []
    left = _spots(band, rounds, share, start, part[0])
    return [*left, spot, *_spots(band, rounds, share, part[1] + 1, stop)]
