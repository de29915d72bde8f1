"""Scheduled reconstruction attacks: which ones apply to a capture, and running them."""

import logging
from collections.abc import Iterable, Mapping
from itertools import chain

from fedlab.core.grouped_log import log_by_reason
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.skipped import EMPTY_BATCH
from fedlab.privacy.release import History
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct
from fedlab.server.captures import Capture

log = logging.getLogger(__name__)


def scheduled_attacks(scenario: Scenario, capture: Capture) -> tuple[Reconstruct, ...]:
    """The attacks that are scheduled against any of the clients of a capture, each once."""
    each = (
        scenario.reconstructions_on(round=capture.round, client=client)
        for client in capture.clients
    )
    return tuple(dict.fromkeys(chain.from_iterable(each)))


def run_scheduled_attacks(
    scenario: Scenario,
    captures: Iterable[Capture],
    histories: Mapping[int, History],
    evaluator: AttackEvaluator,
) -> list[Leak]:
    """Run and score all attacks that are scheduled against some captures.

    A capture that cannot be attacked is named in the log with the reason, on one line with others
    that have the same one. Its images have rows with the reason in ``skipped``; an update without
    any image has one row of ``target`` ``none``.

    Args:
        scenario: The scenario with the schedule.
        captures: The captures of one round.
        histories: Privacy history of every client of the round, this round included.
        evaluator: Runs and scores one attack.

    Returns:
        A leak for each capture and each attack that is scheduled against it.
    """
    pairs = [(one, entry) for one in captures for entry in scheduled_attacks(scenario, one)]
    leaks, left_out = [], []
    found = evaluator.evaluate_all(pairs, histories, scenario=scenario)
    for (capture, entry), leak in zip(pairs, found, strict=True):
        if isinstance(leak, Exception):
            single = len(capture.clients) == 1
            left_out.append((capture.clients[0] if single else capture.of, str(leak)))
        if leak is None or isinstance(leak, Exception):
            reason = EMPTY_BATCH if leak is None else str(leak)
            leak = evaluator.skipped(capture, entry, histories, reason, scenario=scenario)
        leaks.append(leak)
    if left_out:
        number, verbs = pairs[0][0].round, ("is not attacked", "are not attacked")
        log_by_reason(log, logging.WARNING, left_out, round=number, verbs=verbs)
    return leaks
