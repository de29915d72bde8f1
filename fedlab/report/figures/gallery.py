"""Rebuilt images by themselves, where there is no truth to hold them against."""

import math
from collections.abc import Sequence

from torch import Tensor

from fedlab.report.figures.sheet import Picture, first_of

CELL = 1.4
"""Side of an image in inches."""


def gallery(images: Tensor, names: Sequence[str], *, title: str, columns: int = 8) -> Picture:
    """All images in a grid, each under its name.

    Args:
        images: ``[n, 1 or 3, height, width]``, pixels in [0, 1]; n at least 1.
        names: One for each image.
        title: The question that the figure answers.
        columns: Most images in a row.
    """
    across = min(columns, len(images))
    down = math.ceil(len(images) / across)
    size = max(4.6, across * CELL), 0.6 + down * (CELL + 0.25)
    figure = Picture(figsize=size, layout="constrained")  # or names lie on the title
    figure.suptitle(title, fontsize=10, fontweight="bold")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for frame in axes:
        frame.set_axis_off()
    for frame, image, name in zip(axes, images, names, strict=False):
        pixels = image.detach().cpu().clamp(0, 1)
        shown = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
        smoothing = "nearest" if max(image.shape[1:]) <= 64 else "antialiased"
        frame.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation=smoothing)
        frame.set_title(name, fontsize=7)
    figure.alt = f"{title} {len(images)} rebuilt images: {first_of(names)}."
    return figure
