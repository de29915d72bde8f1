"""From a scenario to the orders of one client in one round."""

import random

from fedlab.client.plan import Collusion, Plan
from fedlab.client.roles import Poisoning
from fedlab.poisons.settings import Colluding
from fedlab.privacy.spending import History, to_json
from fedlab.scenario import Scenario
from fedlab.seeds import derive


def plan_for(
    scenario: Scenario,
    *,
    round: int,
    client: int,
    proximal_mu: float = 0.0,
    history: History | None = None,
) -> Plan:
    """What a client is asked to do in a round.

    Args:
        scenario: The experiment.
        round: Counted from 1.
        client: Partition id.
        proximal_mu: What FedProx wants its clients to know.
        history: The client's accountant history as the server knows it, after a resume.
    """
    return Plan(
        round=round,
        client=client,
        lr=scenario.lr(round),
        training=scenario.training,
        role=scenario.role(round=round, client=client),
        defenses=scenario.defenses_on(round=round, client=client),
        proximal_mu=proximal_mu,
        history=None if history is None else to_json(history),
        privacy=scenario.privacy,
        collusion=_collusion(scenario, round, client),
    )


def sample_cohort(scenario: Scenario, round: int) -> list[int]:
    """The clients of a round, by partition id and seed alone, in order."""
    everyone = range(scenario.data.clients)
    size = scenario.server.cohort or len(everyone)
    return sorted(random.Random(derive(scenario.seed, "cohort", round)).sample(everyone, size))


def _collusion(scenario: Scenario, round: int, client: int) -> Collusion | None:
    """Whose honest updates a client knows that makes its own from them."""
    role = scenario.role(round=round, client=client)
    if not isinstance(role, Poisoning) or not isinstance(role.update, Colluding):
        return None
    roles = {c: scenario.role(round=round, client=c) for c in sample_cohort(scenario, round)}
    together = tuple(
        c for c, r in roles.items() if isinstance(r, Poisoning) and r.update == role.update
    )
    honest = tuple(c for c, r in roles.items() if not isinstance(r, Poisoning))
    everyone = role.update.knows == "everyone" and honest
    return Collusion(
        known=honest if everyone else together, clients=len(roles), malicious=len(together)
    )
