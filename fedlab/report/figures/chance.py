"""Figure of PSNR beside chance: whether reconstructions are better than guessing."""

from collections import defaultdict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fedlab.report.figures.colours import FAINT, INK, LINE, defense_colour
from fedlab.report.figures.sheet import (
    NothingToDraw,
    Options,
    Picture,
    first_of,
    new_picture,
    styled,
    wrapped,
)
from fedlab.report.tables.naming import named
from fedlab.report.verdicts.counts import percent_interval
from fedlab.results.attacks import MALICIOUS, best_of_each, counted_images, strongest_label

_TITLE = "Is what was rebuilt better than guessing?"
_KEY = (
    "Upper of each pair, in the colour of the defense: PSNR of every rebuilt image; lower, in grey:"
    " the best guess without any update (chance). Boxes: quartiles and median. Percent: 95 %"
    " interval of the leaking share over clients and seeds."
)

MOST_POINTS = 400
"""Largest number of images in a row that are drawn as points; of more, only outliers are."""


@styled()
def chance_figure(leakage: pd.DataFrame, *, by: str = "defense") -> Picture:
    """Draw the PSNR of all images, and below it in grey chance, with a row for each defense.

    A box goes from the first to the third quartile, its line is the median. At the right is the
    number of images that leak, with the 95 % interval of their share over clients and seeds, and
    the number of images of which nothing was rebuilt. Of several attacks a row shows the strongest,
    see ``fedlab.results.attacks``, so that each image is there once; attacks of a malicious server
    have rows of their own.

    Args:
        leakage: Rows of ``leakage.csv``; rows about original images are used.
        by: Column that names the row: ``defense`` of a comparison, ``defenses`` of one run.

    Raises:
        NothingToDraw: If no image was attacked.
        ValueError: If there is no such column.
    """
    if by not in leakage:
        raise ValueError(f'the leakage table has no column "{by}"')
    seen = best_of_each(leakage)
    if seen.empty:
        raise NothingToDraw(
            "the server attacked no image, so there is nothing to compare with chance"
        )
    malicious = seen["attack"].str.endswith(MALICIOUS)
    rows: dict[str, tuple[str, pd.DataFrame]] = {}
    chosen: dict[str, list[str]] = defaultdict(list)
    for (defense, tampered), images in seen.groupby([seen[by], malicious], sort=False):
        name = named(str(defense)) + ", malicious server" * bool(tampered)
        attack = strongest_label(images)
        if images["attack"].nunique() > 1:
            chosen[attack].append(name)
        rows[name] = str(defense), images[images["attack"] == attack]
    attacks = " or ".join(
        attack if len(chosen) == 1 else f"{attack} ({first_of(names, most=3)})"
        for attack, names in chosen.items()
    )
    strongest = f" Of several attacks the strongest: {attacks}." if attacks else ""
    picture = new_picture(8.2, len(rows) * 0.62 + 0.55, title=_TITLE, notes=[_KEY + strongest])
    axes = picture.subplots()
    counts, words = [], []
    for place, (name, (defense, images)) in enumerate(rows.items()):
        psnr, chance = images["psnr"].dropna(), images["chance_psnr"].dropna()
        _strip(axes, psnr, place + 0.3, defense_colour(defense), f"{name}: rebuilt")
        _strip(axes, chance, place + 0.68, FAINT, f"{name}: chance")
        axes.axhline(place, color=LINE, linewidth=0.6)
        found = counted_images(images)
        several = found.clusters > 1
        share = f" ({percent_interval(found.low, found.high)})" * several
        power = images["power"].min()
        lines = [
            f"{found.leaking} of {found.images} leak{share}",
            ", ".join(
                [f"{found.recognisable} recognisable"] * bool(found.recognisable)
                + [f"{found.inconclusive} inconclusive"] * bool(found.inconclusive)
            ),
            ", ".join(
                [f"{len(images) - len(psnr)} no image"] * (len(psnr) < len(images))
                + [f"power {power:.2f}"] * bool(power == power)
            ),
        ]
        counts.append("\n".join(filter(None, lines)))
        words.append(
            f"{name} median {_median(psnr)} against chance {_median(chance)}, "
            + ", ".join(filter(None, lines))
        )
    middles = np.arange(len(rows)) + 0.5
    axes.set(ylim=(len(rows), 0), xlabel="PSNR in dB, higher is closer to the true image")
    axes.set_yticks(middles, [wrapped(name, 2.2) for name in rows], color=INK)
    axes.tick_params("y", length=0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(middles, counts, color=INK)
    right.tick_params("y", length=0)
    right.spines[:].set_visible(False)
    picture.alt = f"{_TITLE} PSNR in dB: {first_of(words)}.{strongest}"
    return picture


def _strip(axes: Axes, values: "pd.Series[float]", y: float, colour: str, name: str) -> None:
    """Draw a thin box with the points on it, scattered a little across so that few overlap."""
    if values.empty:
        return
    many = len(values) > MOST_POINTS
    axes.boxplot(
        values,
        positions=[y],
        orientation="horizontal",
        widths=0.22,
        whis=(5, 95) if many else (0, 100),
        showfliers=many,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": "none", "edgecolor": colour},
        medianprops={"color": colour, "linewidth": 2.2},
        whiskerprops={"color": colour, "linewidth": 0.8},
        showcaps=False,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
    )
    if not many:
        # A low-discrepancy sequence spreads the points evenly, and equally in every picture.
        across = (np.arange(len(values)) * 0.6180339887) % 1 - 0.5
        points: Options = {"marker": "o", "markersize": 3.5, "markeredgewidth": 0, "alpha": 0.55}
        axes.plot(values, y + 0.2 * across, linewidth=0, color=colour, label=name, **points)


def _median(values: "pd.Series[float]") -> str:
    return f"{values.median():.1f}" if len(values) else "of no image"
