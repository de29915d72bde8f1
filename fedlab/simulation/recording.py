"""The callbacks that write a run folder: captures, tables, reconstructions and the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedlab.evaluation.earlier_rounds import needed_later
from fedlab.evaluation.leaks import Leak, LeakSeries, save_leaks
from fedlab.results.round_result import RoundResult
from fedlab.server.captures import Capture
from fedlab.simulation.auditing import Auditor
from fedlab.simulation.callbacks import Callback
from fedlab.simulation.scheduled_attacks import scheduled_attacks

if TYPE_CHECKING:
    from fedlab.simulation.federation import Federation


class KeepCaptures(Callback):
    """Saves the captures that ``captures.keep`` of the scenario asks for."""

    essential = True

    def on_captures(self, federation: Federation, captures: Sequence[Capture]) -> None:
        """Save the captures."""
        scenario = federation.scenario
        keep = scenario.captures.keep
        for capture in captures:
            attacked = scheduled_attacks(scenario, capture) or needed_later(capture, scenario)
            if keep == "all" or (keep == "attacked" and attacked):
                capture.save(federation.folder.captures)


class WriteTables(Callback):
    """Appends the rows of a round to ``rounds.jsonl`` and the CSV tables."""

    essential = True

    def on_round(self, federation: Federation, result: RoundResult) -> None:
        """Append the rows."""
        folder = federation.folder
        folder.append_round(result.model)
        folder.append("clients", result.clients)
        folder.append("leakage", result.leakage)
        folder.append("ledger", result.ledger)
        folder.seal_ledger()


class WriteReconstructions(Callback):
    """Writes images and scores of a round's reconstructions, and a picture of them.

    They are written at the end of the round, so that no images lie in the folder without rows.
    """

    essential = True

    def __init__(self) -> None:
        self._leaks: Sequence[Leak] = ()

    def on_leaks(self, federation: Federation, leaks: Sequence[Leak]) -> None:
        """Keep the images until the rows of the round are written; a skipped attack has none."""
        self._leaks = [leak for leak in leaks if len(leak.rebuilt)]

    def on_round(self, federation: Federation, result: RoundResult) -> None:
        """Write the reconstructions."""
        if not self._leaks:
            return
        number = result.model.round
        file = federation.folder.leaks(number)
        save_leaks(file, self._leaks)
        title = f"What did the server see in round {number}?"
        LeakSeries(tuple(self._leaks), title).save(file.with_suffix(".png"))
        self._leaks = ()


class WriteCheckpoint(Callback):
    """Writes the checkpoint; it comes last, since a round without it has not happened."""

    essential = True

    def on_round(self, federation: Federation, result: RoundResult) -> None:
        """Write the checkpoint."""
        federation.checkpoint().save(federation.folder.checkpoint)


def run_folder_callbacks(auditor: Auditor | None) -> tuple[Callback, ...]:
    """The callbacks that write a run folder, in the order in which they write.

    Args:
        auditor: Audits the run, if the scenario has an audit.
    """
    audits = () if auditor is None else (auditor,)
    return (KeepCaptures(), WriteTables(), WriteReconstructions(), *audits, WriteCheckpoint())
