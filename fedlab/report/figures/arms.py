"""Arms of a comparison, each with a colour and a marker."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from fedlab.report.figures.colours import defense_colour

_STARS = [(corners, 1, angle) for angle in (0, 30) for corners in (4, 3, 6, 8)]
_MARKERS: list[str | tuple[int, int, int]] = [*"osD^vPX*<>pdhH8", *_STARS]


@dataclass(frozen=True)
class Arm:
    """One defense under one aggregation rule.

    Attributes:
        name: Label of the defense, and of the rule where the comparison has several.
        colour: Colour of the defense.
        marker: Marker that no other of the first 23 arms has.
    """

    name: str
    colour: str
    marker: str | tuple[int, int, int]


def arms_of(frame: pd.DataFrame) -> list[tuple[Arm, pd.DataFrame]]:
    """Split a table of a comparison into its arms, in their order.

    Args:
        frame: Table with the columns ``defense`` and ``rule``.

    Returns:
        Every arm with its rows.
    """
    several = frame["rule"].nunique() > 1
    arms = []
    for place, ((defense, rule), rows) in enumerate(frame.groupby(["defense", "rule"], sort=False)):
        name = f"{defense}, {rule}" if several else str(defense)
        marker = _MARKERS[place % len(_MARKERS)]
        arms.append((Arm(name, defense_colour(str(defense)), marker), rows))
    return arms


def counted(seeds: Iterable[int]) -> str:
    """Describe in words how many seeds there are.

    Example:
        >>> counted([3, 3]), counted([2, 3]), counted([1])
        ('n = 3 seeds', 'n = 2 to 3 seeds', 'n = 1 seed')
    """
    low, high = min(seeds := list(seeds)), max(seeds)
    if low < high:
        return f"n = {low} to {high} seeds"
    return f"n = {high} seed{'s' if high > 1 else ''}"
