"""Estimate of the time until all runs of a comparison are over."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import fmean


class TimeLeft:
    """How long runs will still take, from how long whole runs took.

    Rounds are no measure: one with an attack may take a hundred times as long as one without.

    Args:
        kinds: Kind of each run by its name, in the order in which they run. Runs of one kind, which
            differ in their seed alone, take about as long as each other.
        processes: Number of runs at the same time.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        processes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kinds, self._processes, self._clock = kinds, processes, clock
        self._waiting = list(kinds)
        self._started: dict[str, float] = {}
        self._took: dict[str, list[float]] = defaultdict(list)
        self._start_next()

    def over(self, name: str, *, whole: bool) -> None:
        """Note that a run is over, in whose place the next one starts.

        Args:
            name: Name of the run.
            whole: True if it ran from its first round to its last one.
        """
        started = self._started.pop(name, None)
        if started is None:  # it began and ended between two looks
            self._waiting.remove(name)
        elif whole:
            self._took[self._kinds[name]].append(self._clock() - started)
        self._start_next()

    def seconds(self) -> float | None:
        """The time left in seconds; ``None`` while no run is over, or one takes unusually long."""
        took = {kind: fmean(each) for kind, each in list(self._took.items())}
        if not took:
            return None
        usual, now, running = fmean(took.values()), self._clock(), []
        for name, started in list(self._started.items()):
            kind, age = self._kinds[name], now - started
            if kind not in took and age > usual:
                return None
            running.append(max(0.0, took.get(kind, usual) - age))
        waiting = sum(took.get(self._kinds[name], usual) for name in list(self._waiting))
        return max([(sum(running) + waiting) / self._processes, *running])

    def _start_next(self) -> None:
        while self._waiting and len(self._started) < self._processes:
            self._started[self._waiting.pop(0)] = self._clock()
