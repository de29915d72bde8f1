"""Strips of images with text around them, which every figure of images is made of.

A block of strips is drawn into a single Axes, since constrained layout takes seconds for the
hundreds of Axes that one for each image would need.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from fedlab.report.figures.colours import FAINT, INK, LINE
from fedlab.report.figures.sheet import (
    MARGIN,
    SMALL,
    TEXT,
    TINY,
    Picture,
    inches,
    new_picture,
    width_of,
    wrapped,
)

SMOOTHED_FROM = 64
"""Side in pixels up to which images keep their pixels; larger ones would alias."""

CELL = 1.12
"""Width of an image in inches."""

_GAP, _INNER, _BELOW = 0.14, 0.06, 0.05
"""Gaps between groups, between the images of a group, and below a strip, in widths of an image."""

Line = tuple[str, bool]
"""A line below an image, and whether it is emphasised."""


@dataclass(frozen=True)
class Strip:
    """Images side by side.

    Attributes:
        name: Name at the left of the strip.
        images: Images ``[1 or 3, height, width]`` with pixels in [0, 1]; NaN is drawn grey, and the
            place of ``None`` stays empty.
        edge: Colour of the frame of each image.
        below: Lines of text below each group of images.
    """

    name: str
    images: Sequence[Tensor | None]
    edge: str | Sequence[str] = LINE
    below: Sequence[Sequence[Line]] = ()

    @property
    def aspect(self) -> float:
        """Height of an image divided by its width."""
        return next((float(i.shape[1] / i.shape[2]) for i in self.images if i is not None), 1.0)

    @property
    def text_height(self) -> float:
        """Height of the text below the images, in widths of an image."""
        return max(map(len, self.below), default=0) * inches("x", SMALL) / CELL


@dataclass(frozen=True)
class Block:
    """Strips below each other that belong together.

    Attributes:
        strips: At least one strip; all have as many images.
        names: Name of each group of images, above the first strip.
        heading: Text above the block.
        group: Number of neighbouring images that form a group.
    """

    strips: Sequence[Strip]
    names: Sequence[str] = ()
    heading: str = ""
    group: int = 1

    @property
    def groups(self) -> int:
        """Number of groups across."""
        return max(-(-len(strip.images) // self.group) for strip in self.strips)

    @property
    def step(self) -> float:
        """Distance from one group to the next, in widths of an image."""
        return self.group + (self.group - 1) * _INNER + _GAP

    @property
    def height(self) -> float:
        """Height of the strips, in widths of an image."""
        return sum(strip.aspect + strip.text_height + _BELOW for strip in self.strips)

    @property
    def wrapped_names(self) -> list[str]:
        """Names in lines that are no wider than a group."""
        return [wrapped(name, (self.step - 0.04) * CELL, TINY) for name in self.names]


def image_picture(
    blocks: Sequence[Block], *, title: str, notes: Sequence[str] = (), across: int = 1
) -> Picture:
    """Draw blocks of images below each other.

    Args:
        blocks: At least one block.
        title: Question that the figure answers.
        notes: Explanations below the images.
        across: Number of blocks side by side.
    """
    lines = [blocks[start : start + across] for start in range(0, len(blocks), across)]
    units = max(block.groups * block.step for block in blocks)
    left = max(width_of(strip.name) for block in blocks for strip in block.strips) + 0.15
    labels = max(width_of(block.heading, TEXT, True) for block in blocks)
    # Of a block of few images the heading may be wider than the images, up to a limit.
    room = max(units * CELL, min(labels + 0.1, 1.5 * units * CELL), 4.2 / across - left)
    headings = [wrapped(block.heading, room, TEXT, bold=True) for block in blocks]
    above = [
        inches(heading, TEXT) + max(map(inches, block.wrapped_names), default=0)
        for heading, block in zip(headings, blocks, strict=True)
    ]
    heads = [max(above[start : start + across]) for start in range(0, len(blocks), across)]
    ratios = [max(block.height for block in line) for line in lines]
    height = sum(ratios) * CELL + sum(heads) + 0.2 * len(lines)
    width = across * (left + room) + 2 * MARGIN
    picture = new_picture(width, height, title=title, notes=notes)
    grid = picture.subplots(len(lines), across, squeeze=False, height_ratios=ratios)
    for axes in grid.flat[len(blocks) :]:
        axes.set_axis_off()
    for axes, block, heading in zip(grid.flat, blocks, headings, strict=False):
        draw_block(axes, block, units=units)
        axes.set_title(heading, fontweight="bold")
    return picture


def draw_block(axes: Axes, block: Block, *, units: float | None = None) -> None:
    """Draw a block of images.

    Args:
        axes: Axes that hold nothing else.
        block: Images to draw.
        units: Width of the Axes in widths of an image; default: the width of the block.
    """
    axes.set_aspect("equal", anchor="NW")
    axes.spines[:].set_visible(False)
    top, middles = 0.0, []
    wide = block.step - _GAP
    for strip in block.strips:
        edges = [strip.edge] * len(strip.images) if isinstance(strip.edge, str) else strip.edge
        for place, (image, edge) in enumerate(zip(strip.images, edges, strict=True)):
            group, inner = divmod(place, block.group)
            left = group * block.step + inner * (1 + _INNER)
            if image is not None:
                _draw(axes, image, (left, left + 1, top + strip.aspect, top), edge)
        middles.append(top + strip.aspect / 2)
        top += strip.aspect
        for group, lines in enumerate(strip.below):
            for line, (text, emphasised) in enumerate(lines):
                axes.text(
                    group * block.step + wide / 2,
                    top + 0.03 + line * inches("x", SMALL) / CELL,
                    text,
                    ha="center",
                    va="top",
                    size=TINY if line else SMALL,
                    weight="bold" if emphasised else "normal",
                    color=INK if emphasised else FAINT,
                )
        top += strip.text_height + _BELOW
    axes.set(xlim=(0, units or block.groups * block.step), ylim=(top, 0))
    axes.tick_params(length=0)
    axes.set_yticks(middles, [strip.name for strip in block.strips])
    axes.xaxis.tick_top()
    centres = [group * block.step + wide / 2 for group in range(len(block.names))]
    axes.set_xticks(centres, block.wrapped_names, fontsize=TINY, color=INK)


def _draw(axes: Axes, image: Tensor, extent: tuple[float, float, float, float], edge: str) -> None:
    pixels = image.detach().cpu().float().clamp(0, 1).nan_to_num(nan=0.5)
    shown = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    smoothing = "nearest" if max(image.shape[1:]) <= SMOOTHED_FROM else "antialiased"
    axes.imshow(
        shown.numpy(),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation=smoothing,
        extent=extent,
        aspect="equal",
    )
    left, right, bottom, top = extent
    frame = Rectangle(
        (left, top),
        right - left,
        bottom - top,
        fill=False,
        edgecolor=edge,
        linewidth=0.6 if edge == LINE else 1.6,
    )
    axes.add_patch(frame)
