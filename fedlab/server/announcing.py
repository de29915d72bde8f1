"""What the server knows of a client's round because it asked for it."""

import math
from collections.abc import Sequence
from dataclasses import replace

from fedlab.client.plan import Plan
from fedlab.client.roles import Leaking
from fedlab.defenses.settings import DPSGD, DPInstaHide
from fedlab.scenario import Scenario
from fedlab.scenario_tables import ClassFishing
from fedlab.server.captures import Announced


def announce(plan: Plan, scenario: Scenario) -> Announced:
    """What the server told one client."""
    scheduled = scenario.scheduled_defenses(round=plan.round, client=plan.client)
    leaking = plan.role if isinstance(plan.role, Leaking) else None
    private = next((entry for entry in scheduled if isinstance(entry, DPSGD)), None)
    mixing = next((entry for entry in scheduled if isinstance(entry, DPInstaHide)), None)
    malice = scenario.malice(round=plan.round, client=plan.client)
    return Announced(
        lr=plan.lr,
        momentum=plan.training.momentum,
        weight_decay=plan.training.weight_decay,
        epochs=plan.training.epochs,
        batch_size=leaking.batch_size if leaking else plan.training.batch_size,
        defenses=tuple(entry.name for entry in scheduled),
        clipping_norm=private.clipping_norm if private else None,
        noise_multiplier=private.noise_multiplier if private else None,
        mixture_size=mixing.k if mixing and mixing.weights == "equal" else None,
        poisson=leaking is not None and leaking.sampling == "poisson",
        proximal_mu=plan.proximal_mu,
        training_mode=plan.training.mode == "train",
        malicious=malice.attack if malice else None,
        target=malice.target if isinstance(malice, ClassFishing) else None,
    )


def announce_sum(plans: Sequence[Plan], scenario: Scenario) -> Announced:
    """What the server told the clients whose sum it sees: they act as one with a larger batch.

    The noise of m clients adds up to that of one with a multiplier sqrt(m) times as large.
    """
    told = [announce(plan, scenario) for plan in plans]
    noise = [each.noise_multiplier for each in told if each.noise_multiplier is not None]
    return replace(
        told[0],
        batch_size=sum(each.batch_size for each in told),
        defenses=tuple(dict.fromkeys(name for each in told for name in each.defenses)),
        noise_multiplier=math.hypot(*noise) if noise else None,
    )
