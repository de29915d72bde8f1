"""Figure of reconstructions: true images above rebuilt ones, with the scores below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fedlab.metrics.verdict import UNSCORED
from fedlab.report.figures.colours import LINE, defense_colour
from fedlab.report.figures.image_strips import Block, Line, Strip, image_picture
from fedlab.report.figures.sheet import NothingToDraw, Picture, save, styled
from fedlab.report.tables.numbers import decibels

__all__ = ["Picture", "ReconstructionRow", "reconstruction_figure", "save"]


CAUGHT = "Not caught: the server read out other images, and not this one."
"""Note on images that a malicious server's read-out missed."""

COLOURS = "A frame has the colour of the defenses that were on, the same in every figure."
"""Note on the frames of rebuilt images."""

HEIGHT = 3.0
"""Height of a row with its texts, in widths of an image."""

MOST_ACROSS = 4
"""Largest number of rows side by side; headings of more would not fit above few images."""


@dataclass(frozen=True)
class ReconstructionRow:
    """Images of one attacked client in one round.

    Attributes:
        label: Heading, such as ``round 1 · client 0 · open``.
        truth: True images ``[n, 1 or 3, height, width]``, pixels in [0, 1]; all NaN, and not drawn,
            where nobody but the client has them.
        guess: Rebuilt images, the same shape, in the same order; NaN where there is none, or only
            one of another image.
        psnr: PSNR of each image in dB; NaN where nothing was rebuilt of it.
        ssim: SSIM of each image.
        verdict: Verdict on each image, such as ``leaks``.
        defense: Name of the defense that was on; gives the rebuilt images their colour.
        mixed: Images that the network of a mixing client saw, the same shape.
        chance: Chance PSNR of each image in dB.
        names: Name of each image, above it.
    """

    label: str
    truth: Tensor
    guess: Tensor
    psnr: Sequence[float]
    ssim: Sequence[float]
    verdict: Sequence[str]
    defense: str = "none"
    mixed: Tensor | None = None
    chance: Sequence[float] | None = None
    names: Sequence[str] | None = None

    @property
    def strips(self) -> list[tuple[str, Tensor]]:
        """Names and images of the strips from top to bottom."""
        middle = [("mixed", self.mixed)] if self.mixed is not None else []
        true = [] if self.truth.isnan().all() else [("true", self.truth)]
        return [*true, *middle, ("rebuilt", self.guess)]


@styled()
def reconstruction_figure(
    rows: Sequence[ReconstructionRow], *, title: str, note: str = "", columns: int = 8
) -> Picture:
    """Draw true images above rebuilt ones, a block for each attacked client and round.

    Small images are drawn unsmoothed. Of a larger batch the first ``columns`` images are shown,
    chosen by place and not by score, and the heading says how many there were.

    Args:
        rows: At least one, each with at least one image.
        title: Question that the figure answers.
        note: Sentence below the images, such as on rows that are left out.
        columns: Largest number of images in a row.

    Raises:
        NothingToDraw: If there is no row.
        ValueError: If the parts of a row do not fit each other.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 1, 8, 8)
        >>> row = ReconstructionRow(
        ...     "round 1 · client 0 · open", images, images, [100.0] * 2, [1.0] * 2, ["leaks"] * 2
        ... )
        >>> figure = reconstruction_figure([row], title="What did the server see of client 0?")
        >>> len(figure.axes[0].images)
        4
    """
    if not rows:
        raise NothingToDraw("a reconstruction figure needs at least one row")
    for row in rows:
        _check(row)
    most = max(min(columns, len(row.truth)) for row in rows)
    chance = " and chance PSNR" * any(row.chance is not None for row in rows)
    missed = any(
        _missed(row, place) for row in rows for place in range(min(columns, len(row.truth)))
    )
    picture = image_picture(
        [_block(row, columns) for row in rows],
        title=title,
        notes=[
            f"Below each image: PSNR and verdict, then SSIM{chance}.",
            CAUGHT * missed,
            COLOURS,
            note,
        ],
        across=_across(len(rows), most),
    )
    picture.alt = " ".join(filter(None, [_in_words(rows, title), note]))
    return picture


def _across(rows: int, most: int) -> int:
    """Number of rows side by side that makes the picture of a long run about as wide as tall."""
    return min(MOST_ACROSS, max(1, round(math.sqrt(HEIGHT * rows / most)))) if rows > 3 else 1


def _block(row: ReconstructionRow, columns: int) -> Block:
    count = len(row.truth)
    shown = range(min(columns, count))
    first = f" · first {columns} of {count} images" if count > columns else ""
    return Block(
        [
            Strip(
                name,
                list(images[: len(shown)]),
                edge=defense_colour(row.defense) if images is row.guess else LINE,
                below=[_scores(row, index) for index in shown] if images is row.guess else (),
            )
            for name, images in row.strips
        ],
        names=row.names[: len(shown)] if row.names else (),
        heading=row.label + first,
    )


def _scores(row: ReconstructionRow, index: int) -> list[Line]:
    verdict = row.verdict[index]
    if verdict == UNSCORED:
        return [(verdict, False)]
    if math.isnan(row.psnr[index]):
        return [("no image", False), (verdict, False)]
    if _missed(row, index):
        return [("not caught", False), (verdict, False)]
    chance = "" if row.chance is None else f" · chance {row.chance[index]:.0f}"
    return [
        (f"{decibels(row.psnr[index])} · {verdict}", verdict == "leaks"),
        (f"SSIM {row.ssim[index]:.2f}{chance}", False),
    ]


def _missed(row: ReconstructionRow, index: int) -> bool:
    return not math.isnan(row.psnr[index]) and bool(row.guess[index].isnan().all())


def _check(row: ReconstructionRow) -> None:
    count = len(row.truth)
    for name, images in row.strips:
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape != row.truth.shape:
            raise ValueError(
                f"{row.label}: the {name} images must be [n, 1 or 3, height, width] like the true "
                f"ones, but are {list(images.shape)}"
            )
    scores = [row.psnr, row.ssim, row.verdict, *([] if row.chance is None else [row.chance])]
    named = count if row.names is None else len(row.names)
    if not count or named != count or any(len(values) != count for values in scores):
        raise ValueError(f"{row.label}: there must be as many scores and names as images ({count})")


def _in_words(rows: Sequence[ReconstructionRow], title: str) -> str:
    verdicts = [verdict for row in rows for verdict in row.verdict]
    if unscored := verdicts.count(UNSCORED):
        return f"{title} Images rebuilt in {len(rows)} rows, of which {unscored} are unscored."
    scores = sorted(psnr for row in rows for psnr in row.psnr if not math.isnan(psnr))
    reached = (
        f"PSNR goes from {decibels(scores[0])} to {decibels(scores[-1])}"
        if scores
        else "nothing was rebuilt"
    )
    leaking = f"{verdicts.count('leaks')} of {len(verdicts)} images leak"
    return f"{title} True images above rebuilt ones in {len(rows)} rows: {leaking}, {reached}."
