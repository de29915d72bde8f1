"""Where labels of points go, so that no label lies on another, on a point, or beside the plot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""``[n, 2]``, in inches, x to the right and y up."""

Boxes = NDArray[np.float64]
"""``[n, 4]``, in inches: left, bottom, right, top."""

_MARK = 0.09
"""Half the side of a point that has a label."""

_DOT = 0.035
"""Half the side of a point that has none."""

_AIR = 0.03
"""Least distance between labels."""

_ANGLES = np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225, *range(15, 360, 15)])
_STEPS = (0.0, 0.08, 0.18, 0.3, 0.45, 0.65, 0.9, 1.2, 1.6, 2.1, 2.7, 3.4, 4.2)


@dataclass(frozen=True)
class Placed:
    """Labels in their places.

    Attributes:
        boxes: Of the labels, in the order asked.
        ends: Where a line from each point to its label ends.
        clear: Whether nothing overlaps.
    """

    boxes: Boxes
    ends: Points
    clear: bool

    def far(self, place: int, point: Sequence[float]) -> bool:
        """Whether a label is so far from its point that it takes a line to connect them."""
        return float(np.hypot(*(self.ends[place] - np.asarray(point)))) > 2 * _MARK


def place_labels(
    points: Points,
    sizes: Points,
    *,
    others: Points,
    bars: Points,
    room: tuple[float, float],
) -> Placed:
    """Place a label near each point.

    Greedy: each takes the nearest free place, those first whose points have most company; of some
    such orders the one with the shortest ways is kept.

    Args:
        points: Those with a label.
        sizes: Width and height of the labels.
        others: Points without one.
        bars: Points on thin lines, which labels keep off where they can.
        room: Width and height of the plot, whose lower left corner is (0, 0).

    Example:
        >>> here = np.array([[1.0, 1.0], [1.1, 1.0]])
        >>> none, sizes = np.empty((0, 2)), np.array([[0.9, 0.15], [0.9, 0.15]])
        >>> place_labels(here, sizes, others=none, bars=none, room=(4, 2)).clear
        True
    """
    distances = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    company = (distances < 1).sum(1)
    orders = (
        np.lexsort((points[:, 0], -company)),
        np.lexsort((points[:, 0], company)),
        np.argsort(points[:, 1]),
        np.argsort(-points[:, 1]),
        np.argsort(points[:, 0]),
    )
    marks = np.concatenate([_around(points, _MARK), _around(others, _DOT)])
    found = [_greedy(order, points, sizes, marks, bars, room) for order in orders]
    _, best = min(found, key=lambda each: each[0])
    return best


def _greedy(
    order: NDArray[np.int64],
    points: Points,
    sizes: Points,
    marks: Boxes,
    bars: Points,
    room: tuple[float, float],
) -> tuple[float, Placed]:
    boxes, ends = np.zeros((len(points), 4)), np.zeros((len(points), 2))
    done = np.empty((0, 4))
    lines = np.empty((0, 2))
    total, clear = 0.0, True
    for place in order:
        tried = [
            (_cost(box, end, points[place], marks, done, lines, bars), cost, box, end)
            for box, end, cost in _candidates(points[place], sizes[place], room)
        ]
        overlap, cost, box, end = min(tried, key=lambda each: each[0] + each[1])
        clear &= overlap < _FORBIDDEN
        total += overlap + cost
        boxes[place], ends[place] = box, end
        done = np.concatenate([done, box[None] + [-_AIR, -_AIR, _AIR, _AIR]])
        lines = np.concatenate([lines, _along(points[place], end)])
    return total, Placed(boxes, ends, clear)


_FORBIDDEN = 100.0


def _candidates(
    point: Points, size: Points, room: tuple[float, float]
) -> Iterator[tuple[Boxes, Points, float]]:
    """Boxes around a point inside the plot, where their lines end, and how far they are."""
    half = size / 2
    for step in _STEPS:
        for preference, angle in enumerate(_ANGLES):
            towards = np.array([np.cos(angle), np.sin(angle)])
            # Right beside a point the label's edge is straight across or above it.
            edge = np.where(np.abs(towards) > 0.4, np.sign(towards), 0)
            centre = point + towards * (step + _MARK + 0.05) + edge * half
            low = half + _AIR
            centre = np.clip(centre, low, np.maximum(room - low, low))
            box = np.concatenate([centre - half, centre + half])
            end = np.clip(point, box[:2], box[2:])
            yield box, end, float(np.hypot(*(end - point))) + 0.002 * preference


def _cost(
    box: Boxes, end: Points, point: Points, marks: Boxes, done: Boxes, lines: Points, bars: Points
) -> float:
    """100 for everything that a label must not do, 1 for what it had better not."""
    way = _along(point, end)
    overlaps = _overlap(box, marks) + _overlap(box, done)
    crossed = int(_inside(way, done).any(0).sum()) + int(_inside(lines, box[None]).any())
    beyond = way[np.hypot(*(way - point).T) > 1.5 * _MARK]  # the point's own mark is no obstacle
    passed = int(_inside(beyond, marks).any(0).sum())
    covered = int(_inside(bars, box[None]).any())
    return _FORBIDDEN * (overlaps + crossed) + 0.3 * (passed + covered)


def _along(point: Points, end: Points) -> Points:
    """Points on the line from a point to its label."""
    return point + np.linspace(0, 1, 24)[:, None] * (end - point)


def _around(points: Points, half: float) -> Boxes:
    return np.concatenate([points - half, points + half], axis=1)


def _overlap(box: Boxes, others: Boxes) -> int:
    apart = (
        (box[2] <= others[:, 0])
        | (others[:, 2] <= box[0])
        | (box[3] <= others[:, 1])
        | (others[:, 3] <= box[1])
    )
    return int((~apart).sum())


def _inside(points: Points, boxes: Boxes) -> NDArray[np.bool_]:
    """``[points, boxes]``."""
    x, y = points[:, :1], points[:, 1:]
    inside: NDArray[np.bool_] = (
        (boxes[:, 0] < x) & (x < boxes[:, 2]) & (boxes[:, 1] < y) & (y < boxes[:, 3])
    )
    return inside
