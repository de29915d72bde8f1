"""How far an attack is and how long it will take, for whoever waits for it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attacks.reconstruction import AttackSettings
from attacks.reconstruction.tuning import Share
from attacks.reconstruction.watch import Progress, SelectiveWatch, Watch
from fedlab.core.progress import Tell, progress


@contextmanager
def attack_progress(attack: AttackSettings, watch: Watch | None) -> Iterator[Watch]:
    """Show the progress of an attack and the time left while the block runs.

    Args:
        attack: Settings of the attack.
        watch: Callback of the caller, which is called as it would be without this.

    Yields:
        The callback to give to the attack instead.
    """
    total = attack.iterations * attack.restarts
    with progress("reconstruction", total, unit="iterations") as tell:
        told = _Told(tell, watch)
        yield _Selective(told, watch) if isinstance(watch, SelectiveWatch) else told


@contextmanager
def tuning_progress(budget: int, share: Share) -> Iterator[Share]:
    """Show the progress of the choice of settings on simulated clients while the block runs.

    Args:
        budget: Number of iterations that the choice takes.
        share: Runs trials, which are pairs of settings and a simulated client.

    Yields:
        The function that runs trials to use instead.
    """
    spent = 0
    with progress("choosing settings on simulated clients", budget, unit="iterations") as tell:

        def telling(call: Callable[[Any], Any], trials: Sequence[Any], /) -> list[Any]:
            nonlocal spent
            found = share(call, trials)
            spent += sum(attack.iterations for attack, _ in trials)
            tell(min(spent, budget))
            return found

        yield telling


class _Told:
    """Tells how many iterations of all restarts are done, and calls another callback."""

    def __init__(self, tell: Tell, other: Watch | None) -> None:
        self._tell, self._other = tell, other
        self._done: dict[int, int] = {}

    def __call__(self, state: Progress) -> None:
        """Receive the progress of a restart."""
        self._done[state.restart] = state.iteration
        self._tell(sum(self._done.values()))
        if self._other is not None:
            self._other(state)


class _Selective:
    """The same after the iterations that the other callback chooses."""

    def __init__(self, told: _Told, other: SelectiveWatch) -> None:
        self._told, self.wants = told, other.wants

    def __call__(self, state: Progress) -> None:
        """Receive the progress of a restart."""
        self._told(state)
