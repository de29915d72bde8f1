"""From a scenario to the orders of one client in one round."""

from fedlab.client.plan import Plan
from fedlab.privacy.spending import History, to_json
from fedlab.scenario import Scenario


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
    )
