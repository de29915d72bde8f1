"""Clean images, what a poisoning client made of them, and the difference."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from torch import Tensor

from fedlab.report.figures.colours import FAINT, INK
from fedlab.report.figures.sheet import Picture, first_of

TIMES = 10
"""How much larger differences are drawn than they are; grey is none."""

_CELL = 1.2
_NAMES = 1.0
"""Both in inches: the side of an image, and the room for the names of the rows."""


@dataclass(frozen=True)
class PoisonColumn:
    """One image.

    Attributes:
        clean: ``[channels, height, width]``, pixels in [0, 1].
        poisoned: The same shape.
        label: Its class.
        told: The class that it is trained under.
    """

    clean: Tensor
    poisoned: Tensor
    label: str
    told: str


def poison_figure(columns: Sequence[PoisonColumn], *, title: str) -> Picture:
    """Three rows of images: clean, poisoned, and ten times their difference around grey.

    Args:
        columns: At least one.
        title: The question that the figure answers.
    """
    across = len(columns)
    figure = Picture(
        figsize=(max(4.6, _NAMES + across * _CELL), 0.7 + 3 * (_CELL + 0.25)),
        layout="constrained",
        facecolor="white",
    )
    figure.suptitle(title, fontsize=11, fontweight="bold", color=INK)
    axes = figure.subplots(3, across, squeeze=False)
    for column, (clean, poisoned, change) in zip(columns, axes.T, strict=True):
        _draw(clean, column.clean)
        _draw(poisoned, column.poisoned)
        _draw(change, (0.5 + TIMES * (column.poisoned - column.clean)).clamp(0, 1))
        clean.set_title(column.label, fontsize=8, color=INK)
        relabelled = column.told != column.label
        poisoned.set_title(
            f"as {column.told}" if relabelled else "label kept",
            fontsize=8,
            color=INK if relabelled else FAINT,
            fontweight="bold" if relabelled else "normal",
        )
    for row, name in zip(axes, ("clean", "poisoned", f"difference\n×{TIMES}"), strict=True):
        row[0].set_ylabel(name, fontsize=9, color=INK)
    changes = [
        f"{column.label} changed by up to {_largest(column):.3f}"
        + (f" and trained as {column.told}" if column.told != column.label else ", label kept")
        for column in columns
    ]
    figure.alt = (
        f"{title} Clean images above poisoned ones and their difference: {first_of(changes)}."
    )
    return figure


def _largest(column: PoisonColumn) -> float:
    """Of the changes of single pixels, which lie in [0, 1]."""
    return float((column.poisoned - column.clean).abs().max())


def _draw(frame: Axes, image: Tensor) -> None:
    frame.set_xticks([])
    frame.set_yticks([])
    for spine in frame.spines.values():  # a white patch would be lost on the page
        spine.set(color=FAINT, linewidth=0.6)
    shown = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    frame.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
