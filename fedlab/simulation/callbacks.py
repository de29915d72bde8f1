"""Callbacks: objects that watch a federation and are called at fixed moments of every round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedlab.core.errors import BadInput
from fedlab.core.plugins import describe

if TYPE_CHECKING:
    from fedlab.evaluation.leaks import Leak
    from fedlab.results.round_result import RoundResult
    from fedlab.server.captures import Capture
    from fedlab.simulation.federation import Federation

log = logging.getLogger(__name__)

Hook = Literal["on_start", "on_captures", "on_leaks", "on_round", "on_end"]


class Callback:
    """Watches a federation; a subclass overrides the hooks that it needs.

    The hooks of a round are called in the order ``on_captures``, ``on_leaks``, ``on_round``. The
    round is already on disk, checkpoint included, when a user's ``on_round`` is called; after a
    kill, ``on_captures`` and ``on_leaks`` are called again for the round that is run again.

    An exception in a hook does not stop the run: it is logged as a warning that names the callback,
    the hook and the round, and the next hooks are still called. There are two exceptions. A
    ``BadInput`` from ``on_start`` stops the run before its first round, and any exception of a
    callback with ``essential = True`` stops the run, which can be resumed.

    Example:
        >>> class Accuracies(Callback):
        ...     def __init__(self):
        ...         self.seen = []
        ...
        ...     def on_round(self, federation, result):
        ...         self.seen.append(result.model.accuracy)
        >>> from fedlab import Federation, Scenario
        >>> watching = Accuracies()
        >>> scenario = Scenario(rounds=2, data={"train": 200, "clients": 2})
        >>> _ = Federation(scenario, callbacks=[watching]).run()
        >>> len(watching.seen)
        2
    """

    essential: ClassVar[bool] = False
    """Whether an exception in a hook stops the run instead of being logged as a warning."""

    @property
    def label(self) -> str:
        """What messages call the callback."""
        return f"callback {type(self).__name__}"

    def on_start(self, federation: Federation) -> None:
        """Called once, before the first round that this federation object runs.

        Args:
            federation: The federation; ``federation.round`` is above 0 after a resume.
        """

    def on_captures(self, federation: Federation, captures: Sequence[Capture]) -> None:
        """Called in every round with what the server saw.

        Args:
            federation: The federation.
            captures: One capture for each client, or for each group in secure aggregation.
        """

    def on_leaks(self, federation: Federation, leaks: Sequence[Leak]) -> None:
        """Called in every round with the results of the scheduled reconstructions.

        Args:
            federation: The federation.
            leaks: One result for each scheduled attack; empty if no attack was scheduled.
        """

    def on_round(self, federation: Federation, result: RoundResult) -> None:
        """Called at the end of every round.

        Args:
            federation: The federation, which may be toggled for the rounds to come.
            result: The rows of the round in all tables.
        """

    def on_end(self, federation: Federation) -> None:
        """Called once, after the last round of the scenario.

        Args:
            federation: The federation.
        """


class OnRound(Callback):
    """Calls a function with the result of every round; its exceptions stop the run.

    Args:
        function: The function.
    """

    essential = True

    def __init__(self, function: Callable[[RoundResult], None]) -> None:
        self._function = function

    def on_round(self, federation: Federation, result: RoundResult) -> None:
        """Call the function."""
        self._function(result)


class Callbacks:
    """All callbacks of a federation, called in order.

    Args:
        callbacks: The callbacks.

    Raises:
        BadInput: If one of them is no ``Callback``.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise BadInput(
                    f"{callback!r} is no callback: subclass fedlab.Callback, and pass an instance"
                )
        self._callbacks = list(callbacks)

    def call(self, hook: Hook, federation: Federation, *arguments: Any) -> None:
        """Call one hook of every callback.

        Args:
            hook: Name of the hook.
            federation: The federation.
            *arguments: Further arguments of the hook.

        Raises:
            BadInput: If ``on_start`` of a callback raises it.
            Exception: Whatever an essential callback raises.
        """
        for callback in tuple(self._callbacks):
            try:
                getattr(callback, hook)(federation, *arguments)
            except Exception as error:
                refused = hook == "on_start" and isinstance(error, BadInput)
                if callback.essential or refused:
                    raise
                left_out = "; it is left out of this run" if hook == "on_start" else ""
                log.warning(
                    "%s failed in %s of round %d: %s%s",
                    callback.label, hook, federation.round, describe(error), left_out,
                )  # fmt: skip
                if left_out:
                    self._callbacks.remove(callback)
