"""Where labels of points go, so that no label lies on another, on a point, or beside the plot."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""``[n, 2]``, in inches, x to the right and y up."""

Boxes = NDArray[np.float64]
"""``[n, 4]``, in inches: left, bottom, right, top."""

Lines = NDArray[np.float64]
"""``[n, 4]``, in inches: x and y of one end, then of the other."""

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

    def far(self, place: int, point: Points) -> bool:
        """Whether a label is so far from its point that it takes a line to connect them."""
        return float(np.hypot(*(self.ends[place] - np.asarray(point)))) > 2 * _MARK


def place_labels(
    points: Points,
    sizes: Points,
    *,
    others: Points,
    bars: Lines,
    room: tuple[float, float],
) -> Placed:
    """Place a label near each point.

    Greedy: each takes the nearest free place, those first whose points have most company; of some
    such orders the one with the shortest ways is kept.

    Args:
        points: Those with a label.
        sizes: Width and height of the labels.
        others: Points without one.
        bars: Thin lines, which labels keep off where they can.
        room: Width and height of the plot, whose lower left corner is (0, 0).

    Example:
        >>> here = np.array([[1.0, 1.0], [1.1, 1.0]])
        >>> none, bars = np.empty((0, 2)), np.empty((0, 4))
        >>> sizes = np.array([[0.9, 0.15], [0.9, 0.15]])
        >>> place_labels(here, sizes, others=none, bars=bars, room=(4, 2)).clear
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
    bars: Lines,
    room: tuple[float, float],
) -> tuple[float, Placed]:
    boxes, ends = np.zeros((len(points), 4)), np.zeros((len(points), 2))
    done = np.empty((0, 4))
    lines = np.empty((0, 4))
    total, clear = 0.0, True
    for place in order:
        tried, reached, far = _candidates(points[place], sizes[place], room)
        costs = _costs(tried, reached, points[place], marks, done, lines, bars)
        best = int(np.argmin(costs + far))
        box, end = tried[best], reached[best]
        clear &= bool(costs[best] < _FORBIDDEN)
        total += float(costs[best] + far[best])
        boxes[place], ends[place] = box, end
        done = np.concatenate([done, box[None] + [-_AIR, -_AIR, _AIR, _AIR]])
        lines = np.concatenate([lines, [[*points[place], *end]]])
    return total, Placed(boxes, ends, clear)


_FORBIDDEN = 100.0


def _candidates(
    point: Points, size: Points, room: tuple[float, float]
) -> tuple[Boxes, Points, NDArray[np.float64]]:
    """Boxes around a point inside the plot, where their lines end, and how far they are."""
    half = size / 2
    towards = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    # Right beside a point the label's edge is straight across or above it.
    edges = np.where(np.abs(towards) > 0.4, np.sign(towards), 0) * half
    steps = (np.array(_STEPS) + _MARK + 0.05)[:, None, None]
    centres = (point + towards * steps + edges).reshape(-1, 2)
    low = half + _AIR
    centres = np.clip(centres, low, np.maximum(room - low, low))
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    ends = np.clip(point, boxes[:, :2], boxes[:, 2:])
    preferences = np.tile(np.arange(len(_ANGLES)), len(_STEPS))
    # No place is nearer than beside the point; one that the plot's edge pushed nearer is no better.
    far = np.maximum(np.hypot(*(ends - point).T), _MARK + 0.05)
    return boxes, ends, far + 0.002 * preferences


def _costs(
    boxes: Boxes,
    ends: Points,
    point: Points,
    marks: Boxes,
    done: Boxes,
    lines: Lines,
    bars: Lines,
) -> NDArray[np.float64]:
    """Of each candidate: 100 for all that a label must not do, 0.3 for what it had better not."""
    ways = np.concatenate([np.broadcast_to(point, ends.shape), ends], axis=1)
    foreign = marks[~((marks[:, :2] < point) & (point < marks[:, 2:])).all(1)]
    overlaps = _overlap(boxes, marks).sum(1) + _overlap(boxes, done).sum(1)
    crossed = _crossed(ways, done).sum(1) + _crossed(lines, boxes).any(0)
    passed = _crossed(ways, foreign).sum(1)
    covered = _crossed(bars, boxes).any(0)
    costs: NDArray[np.float64] = _FORBIDDEN * (overlaps + crossed) + 0.3 * (passed + covered)
    return costs


def _around(points: Points, half: float) -> Boxes:
    return np.concatenate([points - half, points + half], axis=1)


def _overlap(boxes: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """``[boxes, others]``."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    return np.asarray((low < high).all(2))


def _crossed(lines: Lines, boxes: Boxes) -> NDArray[np.bool_]:
    """Whether a line runs through a box, ``[lines, boxes]``: it is in both slabs at once."""
    start, way = lines[:, None, :2], (lines[:, 2:] - lines[:, :2])[:, None]
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    enter, leave = (boxes[:, :2] - start) / way, (boxes[:, 2:] - start) / way
    first = np.minimum(enter, leave).max(2)
    last = np.maximum(enter, leave).min(2)
    return np.asarray((first < last) & (first < 1) & (last > 0))
