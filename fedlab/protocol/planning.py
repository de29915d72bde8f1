"""From a scenario to the orders of one client in one round."""

import random

from attacks.model_poisoning.little_is_enough import largest_z
from fedlab.core.errors import BadInput
from fedlab.core.seeds import derive
from fedlab.poisoning.settings import Colluding, LittleIsEnough, MinMax, MinSum
from fedlab.privacy.release import History, to_json
from fedlab.protocol.task import ClientTask, CollusionTask
from fedlab.scenario.roles import Poisoning
from fedlab.scenario.scenario import Scenario


def task_for(
    scenario: Scenario,
    *,
    round: int,
    client: int,
    proximal_mu: float = 0.0,
    history: History | None = None,
) -> ClientTask:
    """What a client is asked to do in a round.

    Args:
        scenario: The experiment.
        round: Counted from 1.
        client: Partition id.
        proximal_mu: What FedProx wants its clients to know.
        history: The client's accountant history as the server knows it, after a resume.
    """
    return ClientTask(
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


def refuse_what_colluders_lack(scenario: Scenario) -> None:
    """Refuse updates that their senders know too little to make.

    Where cohorts are drawn, nothing is refused: which colluders meet differs from round to round.

    Raises:
        BadInput: If min-max or min-sum knows of one update only, or there is no z for a majority.
    """
    if scenario.server.cohort is not None:
        return
    looked_at = set()
    for round in range(1, scenario.rounds + 1):
        for client in range(scenario.data.clients):
            role = scenario.role(round=round, client=client)
            update = role.update if isinstance(role, Poisoning) else None
            if (round, update) in looked_at:
                continue
            looked_at.add((round, update))
            told = _collusion(scenario, round, client)
            if told is not None and (lack := _lack(update, told)):
                raise BadInput(f"client {client} in round {round}: {lack}")


def _lack(update: object, told: CollusionTask) -> str | None:
    """What a colluder would have to know besides, with the fix."""
    if isinstance(update, MinMax | MinSum) and len(told.known) < 2:
        fix = (
            "leave more clients honest"
            if update.knows == "everyone"
            else 'let more clients collude, or set knows = "everyone"'
        )
        return (
            f"{update.attack} goes by how far honest updates are from each other and knows of one "
            f"only: {fix}"
        )
    if isinstance(update, LittleIsEnough) and update.z is None:
        try:
            largest_z(told.clients, told.malicious)
        except ValueError:
            return (
                f"{update.attack} hides among a majority of others, and {told.malicious} of "
                f"{told.clients} clients are none to hide from: give z"
            )
    return None


def _collusion(scenario: Scenario, round: int, client: int) -> CollusionTask | None:
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
    return CollusionTask(
        known=honest if everyone else together, clients=len(roles), malicious=len(together)
    )
