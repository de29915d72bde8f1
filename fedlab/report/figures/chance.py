"""Whether what was rebuilt is better than guessing: PSNR of all images beside that of chance."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fedlab.report.figures.colours import FAINT, INK, LINE, defense_colour
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet, first_of
from fedlab.report.figures.text_layout import SMALL, TEXT, TITLE, line_height, width, wrapped
from fedlab.report.tables.naming import named
from fedlab.results.attacks import MALICIOUS, best_of_each, strongest_label

_TITLE = "Is what was rebuilt better than guessing?"

# All in inches.
_WIDTH = 8.2
_MARGIN = 0.25
_NAMES = 2.2
_ROW = 0.62

MOST_POINTS = 400
"""Of a row; of more images only the box is drawn, and what lies outside its whiskers."""


@dataclass(frozen=True)
class _Row:
    """Images under one defense, each as the strongest attack there rebuilt it.

    Attributes:
        defense: Names joined by ``+``, or its label in a comparison.
        malicious: Whether the server tampered with what it sent.
        attack: That attack.
        attacks: How many there were to choose it from.
        psnr: Of those that something was rebuilt of.
        chance: Of all.
        leaking: How many of all leak.
    """

    defense: str
    malicious: bool
    attack: str
    attacks: int
    psnr: NDArray[np.float64]
    chance: NDArray[np.float64]
    leaking: int

    @property
    def name(self) -> str:
        """What is written at its left."""
        return named(self.defense) + ", malicious server" * self.malicious

    @property
    def counts(self) -> list[str]:
        """What is written at its right."""
        n = len(self.chance)
        lines = [f"n = {n}", f"{self.leaking / n:.0%} leak"]
        lost = n - len(self.psnr)
        return [*lines, f"{lost} no image"] if lost else lines


def chance_figure(leakage: pd.DataFrame, *, by: str = "defense") -> Picture:
    """A row for each defense: PSNR of all images, and below it in grey what chance reaches.

    A box goes from the first to the third quartile, its line is the median. Images without a
    reconstruction are counted at the right. Of several attacks a row shows the strongest, see
    ``fedlab.results.attacks``, so that each image is there once; a malicious server
    has rows of its own.

    Args:
        leakage: Rows of ``leakage.csv``; those of original images are used.
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
    rows = [
        _row(str(name), bool(tampered), images)
        for (name, tampered), images in seen.groupby([seen[by], malicious], sort=False)
    ]
    names = [wrapped(row.name, SMALL, _NAMES) for row in rows]
    left = _MARGIN + max(width(line, SMALL) for lines in names for line in lines) + 0.2
    right = max(width(line, SMALL) for row in rows for line in row.counts) + 0.15 + _MARGIN
    titles = wrapped(_TITLE, TITLE, _WIDTH - 2 * _MARGIN, bold=True)
    key = wrapped(
        "Upper of each pair, in the colour of the defense: PSNR of every rebuilt image; "
        "lower, in grey: the best guess without any update (chance). Boxes: "
        f"quartiles and median.{_chosen(rows)}",
        SMALL,
        _WIDTH - 2 * _MARGIN,
    )
    top = _MARGIN + len(titles) * line_height(TITLE) + 0.03
    plot = top + len(key) * line_height(SMALL) + 0.15
    height = len(rows) * _ROW
    sheet = Sheet(_WIDTH, plot + height + 0.55 + _MARGIN)
    sheet.lines(_MARGIN, _MARGIN, titles, size=TITLE, bold=True)
    sheet.lines(_MARGIN, top, key, size=SMALL, colour=FAINT)
    axes = sheet.axes(left, plot, _WIDTH - left - right, height)
    axes.set_ylim(len(rows), 0)
    axes.set_yticks([])
    for place, (row, lines) in enumerate(zip(rows, names, strict=True)):
        middle = plot + (place + 0.5) * _ROW
        start = middle - len(lines) * line_height(SMALL) / 2
        sheet.lines(_MARGIN, start, lines, size=SMALL)
        start = middle - len(row.counts) * line_height(SMALL) / 2
        counts_at = _WIDTH - right + 0.15
        sheet.lines(counts_at, start, row.counts, size=SMALL, colour=INK if row.leaking else FAINT)
        _strip(axes, row.psnr, place + 0.3, defense_colour(row.defense), f"{row.name}: rebuilt")
        _strip(axes, row.chance, place + 0.68, FAINT, f"{row.name}: chance")
        if place:
            axes.axhline(place, color=LINE, linewidth=0.6)
    axes.set_xlabel("PSNR in dB, higher is closer to the true image", color=FAINT, fontsize=TEXT)
    sheet.figure.alt = _in_words(rows)
    return sheet.figure


def _row(defense: str, malicious: bool, images: pd.DataFrame) -> _Row:
    attack = strongest_label(images)
    own = images[images["attack"] == attack]
    return _Row(
        defense,
        malicious,
        attack,
        images["attack"].nunique(),
        own["psnr"].dropna().to_numpy(dtype=np.float64),
        own["chance_psnr"].to_numpy(dtype=np.float64),
        int(own["leaks"].sum()),
    )


def _chosen(rows: list[_Row]) -> str:
    """Which attacks are shown, where there was a choice."""
    places: dict[str, list[str]] = {}
    for row in rows:
        if row.attacks > 1:
            places.setdefault(row.attack, []).append(row.name)
    if not places:
        return ""
    told = " or ".join(
        attack if len(places) == 1 else f"{attack} ({first_of(names, most=3)})"
        for attack, names in places.items()
    )
    return f" Of several attacks the strongest: {told}."


def _strip(axes: Axes, values: NDArray[np.float64], y: float, colour: str, name: str) -> None:
    """A thin box with the points on it, scattered a little across so that they can be told."""
    if not len(values):
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
        boxprops={"facecolor": "none", "edgecolor": colour, "linewidth": 1},
        medianprops={"color": colour, "linewidth": 2.2},
        whiskerprops={"color": colour, "linewidth": 0.8},
        showcaps=False,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
    )
    if not many:
        # Places of a low-discrepancy sequence: even, and the same in every picture.
        across = (np.arange(len(values)) * 0.6180339887) % 1 - 0.5
        axes.plot(
            values,
            y + 0.2 * across,
            linewidth=0,
            marker="o",
            markersize=3.5,
            markeredgewidth=0,
            color=colour,
            alpha=0.55,
            label=name,
        )


def _in_words(rows: list[_Row]) -> str:
    parts = [
        f"{row.name} median {_median(row.psnr)} against chance "
        f"{_median(row.chance)}, {row.leaking} of {len(row.chance)} leak"
        for row in rows
    ]
    return f"{_TITLE} PSNR in dB: {first_of(parts)}.{_chosen(rows)}"


def _median(values: NDArray[np.float64]) -> str:
    return f"{np.median(values):.1f}" if len(values) else "of no image"
