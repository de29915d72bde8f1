"""What the server knows of a client's round because it asked for it."""

import math
from collections.abc import Sequence
from dataclasses import replace

from fedlab.announced import Announced, announced
from fedlab.client.plan import Plan
from fedlab.scenario import Scenario
from fedlab.scenario_tables import ClassFishing


def announce(plan: Plan, scenario: Scenario) -> Announced:
    """What the server told one client, and how it tampered with what it sent."""
    malice = scenario.malice(round=plan.round, client=plan.client)
    return replace(
        announced(plan, scenario.scheduled_defenses(round=plan.round, client=plan.client)),
        malicious=malice.attack if malice else None,
        target=malice.target if isinstance(malice, ClassFishing) else None,
    )


def announce_sum(plans: Sequence[Plan], scenario: Scenario) -> Announced:
    """What the server told the clients whose sum it sees: they act as one with a larger batch.

    The noise of m clients' DP-SGD adds up to that of one with a multiplier sqrt(m) times as large.
    That on their updates averages out, as far as they hold as many images each.
    """
    told = [announce(plan, scenario) for plan in plans]
    noise = [each.noise_multiplier for each in told if each.noise_multiplier is not None]
    norms = [each.update_clipping_norm for each in told if each.update_clipping_norm is not None]
    return replace(
        told[0],
        batch_size=sum(each.batch_size for each in told),
        defenses=tuple(dict.fromkeys(name for each in told for name in each.defenses)),
        noise_multiplier=math.hypot(*noise) if noise else None,
        # Where one of them does not clip, nothing bounds the mean.
        update_clipping_norm=max(norms) if len(norms) == len(told) else None,
        update_noise=math.hypot(*(each.update_noise for each in told)) / len(told),
    )
