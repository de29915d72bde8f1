"""Results of a client's history that go on from the result of the round before.

A history grows by one participation in every round, and what is computed from all of it would take
longer in each.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from fedlab.privacy.release import History, before_last, participations

Result = TypeVar("Result")

ANY = range(10**12)
"""All lengths of a history."""


MOST_SKIPPED = 16
"""Number of last participations of a history beyond one whose result is kept: a result may be asked
for in some rounds only, such as those without a defense."""


class Fold(Generic[Result]):
    """A result that is computed from one participation after another, and kept for some histories.

    Args:
        start: Result of no participation.
        plus: Returns the result with one more participation; it changes neither.
        most: Number of results that are kept.
        lengths: Numbers of entries of the histories whose results are kept.
    """

    def __init__(
        self,
        start: Result,
        plus: Callable[[Result, History], Result],
        *,
        most: int,
        lengths: range = ANY,
    ) -> None:
        self._start, self._plus, self._most, self._lengths = start, plus, most, lengths
        self._kept: OrderedDict[_Key, Result] = OrderedDict()

    def of(self, history: History) -> Result:
        """Compute the result of a history."""
        key = _Key(history)
        if (known := self._kept.pop(key, None)) is not None:
            # Under this very history from now on: other, equal entries take long to compare.
            self._kept[key] = known
            return known
        found, before = None, history
        for _ in range(MOST_SKIPPED):
            before = before_last(before)
            # Taken away, since the longer history replaces it, and thousands would fill the memory.
            if (found := self._kept.pop(_Key(before), None)) is not None or not before:
                break
        if found is None:
            found, before = self._start, ()
        for part in participations(history[len(before) :]):
            found = self._plus(found, part)
        if len(history) in self._lengths:
            self._kept[key] = found
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found


class _Key:
    """A history as a key, hashed by length, first and last entry: all others take too long."""

    __slots__ = ("_hash", "history")

    def __init__(self, history: History) -> None:
        self.history, self._hash = history, hash((len(history), history[:1], history[-1:]))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Key):
            return False
        # Mostly it is the same tuple, whose entries Python would nevertheless compare.
        return self.history is other.history or self.history == other.history
