"""Clean images, what a poisoning client made of them, and the difference."""

from matplotlib.axes import Axes
from torch import Tensor

from fedlab.report.figures.colours import FAINT, INK
from fedlab.report.figures.sheet import NothingToDraw, Picture, first_of
from fedlab.report.figures.text_layout import wrapped
from fedlab.simulation.poison_preview import PoisonPreview

TIMES = 10
"""How much larger differences are drawn than they are; grey is none."""

_CELL = 1.2
_NAMES = 1.0
"""Both in inches: the side of an image, and the room for the names of the rows."""


def poison_figure(preview: PoisonPreview, images: int = 8) -> Picture:
    """Draw three rows of images: clean, poisoned, and ten times their difference on grey.

    Args:
        preview: Clean and poisoned images of a client.
        images: Largest number of images; the first changed ones are drawn.

    Raises:
        NothingToDraw: If the client changes none of its images.
    """
    places = preview.changed[:images].tolist()
    if not places:
        raise NothingToDraw(f"client {preview.client} changes none of its images")
    title = f"What does client {preview.client} train on? ({preview.attack})"
    across = len(places)
    figure = Picture(
        figsize=(max(4.6, _NAMES + across * _CELL), 0.7 + 3 * (_CELL + 0.25)),
        layout="constrained",
        facecolor="white",
    )
    figure.suptitle(title, fontsize=11, fontweight="bold", color=INK)
    axes = figure.subplots(3, across, squeeze=False)
    changes = []
    for place, column in zip(places, axes.T, strict=True):
        clean, poisoned = (
            each.images[place].float().div(255).cpu() for each in (preview.clean, preview.poisoned)
        )
        label, trained = (
            preview.classes[int(each.labels[place])] for each in (preview.clean, preview.poisoned)
        )
        change = (0.5 + TIMES * (poisoned - clean)).clamp(0, 1)
        for frame, image in zip(column, (clean, poisoned, change), strict=True):
            _draw(frame, image)
        relabelled = trained != label
        column[0].set_title(_wrapped(label), fontsize=8, color=INK)
        column[1].set_title(
            _wrapped(f"as {trained}") if relabelled else "label kept",
            fontsize=8,
            color=INK if relabelled else FAINT,
            fontweight="bold" if relabelled else "normal",
        )
        changes.append(
            f"{label} changed by up to {float((poisoned - clean).abs().max()):.3f}"
            + (f" and trained as {trained}" if relabelled else ", label kept")
        )
    for row, name in zip(axes, ("clean", "poisoned", f"difference\n×{TIMES}"), strict=True):
        row[0].set_ylabel(name, fontsize=9, color=INK)
    figure.alt = (
        f"{title} Clean images above poisoned ones and their difference: {first_of(changes)}."
    )
    return figure


def _wrapped(name: str) -> str:
    return "\n".join(wrapped(name, 8, _CELL))


def _draw(frame: Axes, image: Tensor) -> None:
    frame.set_xticks([])
    frame.set_yticks([])
    for spine in frame.spines.values():  # a white patch would be lost on the page
        spine.set(color=FAINT, linewidth=0.6)
    shown = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    frame.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
