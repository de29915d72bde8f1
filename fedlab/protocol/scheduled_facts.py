"""What the server knows of a client's round because it asked for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedlab.privacy.release import History
from fedlab.protocol.round_facts import RoundFacts, round_facts
from fedlab.protocol.task import ClientTask
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing


def scheduled_facts(task: ClientTask, scenario: Scenario, history: History = ()) -> RoundFacts:
    """What the server told one client, and how it tampered with what it sent.

    Args:
        task: The client's orders.
        scenario: What is scheduled.
        history: That the client had declared before the round.
    """
    malice = scenario.malice(round=task.round, client=task.client)
    defenses = scenario.scheduled_defenses(round=task.round, client=task.client)
    return replace(
        round_facts(task, defenses, history),
        malicious=malice.attack if malice else None,
        target=malice.target if isinstance(malice, ClassFishing) else None,
    )


def summed_facts(
    tasks: Sequence[ClientTask], scenario: Scenario, histories: Mapping[int, History]
) -> RoundFacts:
    """What the server told the clients whose sum it sees: they act as one with a larger batch.

    The noise of m clients' DP-SGD adds up to that of one with a multiplier sqrt(m) times as large,
    where all clip to the same norm; in general it is told in units of the largest. That on their
    updates averages out, as far as they hold as many images each.

    Args:
        tasks: The clients' orders.
        scenario: What is scheduled.
        histories: That the clients had declared before the round.
    """
    told = [scheduled_facts(task, scenario, histories.get(task.client, ())) for task in tasks]
    private = [
        (each.clipping_norm, each.noise_multiplier)
        for each in told
        if each.clipping_norm is not None and each.noise_multiplier is not None
    ]
    bound = max((norm for norm, _ in private), default=None)
    norms = [each.update_clipping_norm for each in told if each.update_clipping_norm is not None]
    return replace(
        told[0],
        batch_size=sum(each.batch_size for each in told),
        defenses=tuple(dict.fromkeys(name for each in told for name in each.defenses)),
        clipping_norm=bound,
        noise_multiplier=math.hypot(*(c * z for c, z in private)) / bound if bound else None,
        # Where one of them does not clip, nothing bounds the mean.
        update_clipping_norm=max(norms) if len(norms) == len(told) else None,
        update_noise=math.hypot(*(each.update_noise for each in told)) / len(told),
    )
