"""Figure of rebuilt images alone, where no true images are known."""

from collections.abc import Sequence

from torch import Tensor

from fedlab.report.figures.image_strips import Block, Strip, image_picture
from fedlab.report.figures.sheet import Picture, first_of, styled


@styled()
def gallery(images: Tensor, names: Sequence[str], *, title: str, columns: int = 8) -> Picture:
    """Draw images in a grid, each under its name.

    Args:
        images: ``[n, 1 or 3, height, width]``, pixels in [0, 1]; n at least 1.
        names: Name of each image.
        title: Question that the figure answers.
        columns: Largest number of images in a row.
    """
    rows = [slice(start, start + columns) for start in range(0, len(images), columns)]
    blocks = [Block([Strip("", list(images[row]))], names[row]) for row in rows]
    picture = image_picture(blocks, title=title)
    picture.alt = f"{title} {len(images)} rebuilt images: {first_of(names)}."
    return picture
