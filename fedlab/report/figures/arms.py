"""The arms of a comparison, with the colour and the marker that each keeps in its figures."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from fedlab.report.figures.colours import defense_colour

_MARKERS = "osD^vPX*<>pHd8h"


@dataclass(frozen=True)
class Arm:
    """One defense under one rule of aggregation.

    Attributes:
        defense: Its label.
        rule: Name of the server's strategy.
        name: What tells it from the others of the comparison.
        colour: Of the defense.
        marker: Of its own among the arms of this colour.
    """

    defense: str
    rule: str
    name: str
    colour: str
    marker: str


def arms_of(frame: pd.DataFrame) -> list[tuple[Arm, pd.DataFrame]]:
    """The arms of a comparison's frame in their order, each with its rows.

    Args:
        frame: See ``fedlab.comparison``; ``defense`` and ``rule`` are read.
    """
    several = frame["rule"].nunique() > 1
    used = Counter[str]()
    arms = []
    for (defense, rule), rows in frame.groupby(["defense", "rule"], sort=False):
        colour = defense_colour(str(defense))
        arm = Arm(
            str(defense),
            str(rule),
            f"{defense}, {rule}" if several else str(defense),
            colour,
            _MARKERS[used[colour] % len(_MARKERS)],
        )
        used[colour] += 1
        arms.append((arm, rows))
    return arms


def counted(seeds: Iterable[int]) -> str:
    """How many seeds each of some values is a median of, in words.

    Example:
        >>> counted([3, 3]), counted([2, 3]), counted([1])
        ('n = 3 seeds', 'n = 2 to 3 seeds', 'n = 1 seed')
    """
    low, high = min(seeds := list(seeds)), max(seeds)
    if low < high:
        return f"n = {low} to {high} seeds"
    return f"n = {high} seed{'s' if high > 1 else ''}"
