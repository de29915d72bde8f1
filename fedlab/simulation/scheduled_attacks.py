"""Scheduled reconstruction attacks: which ones apply to a capture, and running them."""

import logging
from collections.abc import Iterable, Mapping
from itertools import chain

from fedlab.core.network_errors import NetworkFailed
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

    A capture that cannot be attacked is named in the log with the reason. Its images have rows with
    the reason in ``skipped``; an update without any image has one row of ``target`` ``none``.

    Args:
        scenario: The scenario with the schedule.
        captures: The captures of one round.
        histories: Privacy history of every client of the round, this round included.
        evaluator: Runs and scores one attack.

    Returns:
        A leak for each capture and each attack that is scheduled against it.
    """
    leaks = []
    for capture in captures:
        for settings in scheduled_attacks(scenario, capture):
            try:
                leak = evaluator.evaluate(capture, settings, histories, scenario=scenario)
                reason = EMPTY_BATCH
            except (ValueError, NetworkFailed) as error:
                leak, reason = None, str(error)
                log.warning("round %d: %s is not attacked: %s", capture.round, capture.of, reason)
            if leak is None:
                leak = evaluator.skipped(capture, settings, histories, reason, scenario=scenario)
            leaks.append(leak)
    return leaks
