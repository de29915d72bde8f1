"""Figure of a poison: clean images, poisoned images, and their difference."""

from fedlab.report.figures.colours import FAINT
from fedlab.report.figures.image_strips import Block, Line, Strip, image_picture
from fedlab.report.figures.sheet import NothingToDraw, Picture, first_of, styled
from fedlab.simulation.poison_preview import PoisonPreview

TIMES = 10
"""Factor by which differences are magnified; grey is no difference."""


@styled()
def poison_figure(preview: PoisonPreview, images: int = 8) -> Picture:
    """Draw three strips of images: clean, poisoned, and ten times their difference on grey.

    Args:
        preview: Clean and poisoned images of a client.
        images: Largest number of images; the first changed ones are drawn.

    Raises:
        NothingToDraw: If the client changes none of its images.
    """
    places = preview.changed[:images].tolist()
    if not places:
        raise NothingToDraw(f"client {preview.client} changes none of its images")
    clean, poisoned = (
        list(shard.images[places].float().div(255).cpu())
        for shard in (preview.clean, preview.poisoned)
    )
    before, after = (
        [preview.classes[int(label)] for label in shard.labels[places]]
        for shard in (preview.clean, preview.poisoned)
    )
    changes = [there - here for here, there in zip(clean, poisoned, strict=True)]
    labels: list[list[Line]] = [
        [("label kept", False) if new == old else (f"as {new}", True)]
        for old, new in zip(before, after, strict=True)
    ]
    strips = [
        Strip("clean", clean, edge=FAINT),  # a white patch would be lost on the page
        Strip("poisoned", poisoned, edge=FAINT, below=labels),
        Strip(f"difference\n×{TIMES}", [0.5 + TIMES * each for each in changes], edge=FAINT),
    ]
    title = f"What does client {preview.client} train on? ({preview.attack})"
    picture = image_picture([Block(strips, before)], title=title)
    said = first_of(
        f"{old} changed by up to {float(change.abs().max()):.3f}"
        + (", label kept" if new == old else f" and trained as {new}")
        for old, new, change in zip(before, after, changes, strict=True)
    )
    picture.alt = f"{title} Clean images above poisoned ones and their difference: {said}."
    return picture
