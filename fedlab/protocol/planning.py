"""From a scenario to the task of one client in one round."""

import random

from fedlab.core.errors import BadInput
from fedlab.core.seeds import derive
from fedlab.poisoning import ColludingAttack
from fedlab.privacy.history_text import to_json
from fedlab.privacy.release import History
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
    unanswered: History = (),
) -> ClientTask:
    """Return the task of a client in a round.

    Args:
        scenario: Scenario of the run.
        round: Round number, counted from 1.
        client: Partition id of the client.
        proximal_mu: Weight of the proximal term of FedProx, at least 0.
        history: Privacy history of the client as the server knows it; only sent after a resume.
        unanswered: Costs of the client's tasks whose replies the server does not have.
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
        unanswered=to_json(unanswered) if unanswered else None,
        privacy=scenario.privacy,
        collusion=_collusion(scenario, round, client),
        exposed=_exposed(scenario, round, client),
        observes=_observes(scenario, round, client),
        reply_timeout=scenario.server.reply_timeout,
    )


def sample_cohort(scenario: Scenario, round: int) -> list[int]:
    """Return the sorted partition ids of the clients of a round; only the seed decides."""
    everyone = range(scenario.data.clients)
    size = scenario.server.cohort or len(everyone)
    return sorted(random.Random(derive(scenario.seed, "cohort", round)).sample(everyone, size))


def check_collusion(scenario: Scenario) -> None:
    """Refuse colluding clients that know too little for their attack.

    Nothing is refused with ``server.cohort``, where the colluding clients of a round are drawn.

    Raises:
        BadInput: If an attack cannot be made in some round.
    """
    if scenario.server.cohort is not None:
        return
    checked = set()
    for round in range(1, scenario.rounds + 1):
        for client in range(scenario.data.clients):
            attack = _colluding_attack(scenario, round, client)
            if attack is None or (round, attack) in checked:
                continue
            checked.add((round, attack))
            found = _collusion(scenario, round, client)
            if found is not None and (
                problem := attack.missing_knowledge(
                    known=len(found.known), clients=found.clients, malicious=found.malicious
                )
            ):
                raise BadInput(f"client {client} in round {round}: {problem}")


def _colluding_attack(scenario: Scenario, round: int, client: int) -> ColludingAttack | None:
    role = scenario.role(round=round, client=client)
    update = role.update if isinstance(role, Poisoning) else None
    return update if isinstance(update, ColludingAttack) else None


def _collusion(scenario: Scenario, round: int, client: int) -> CollusionTask | None:
    """The clients whose honest updates a colluding client knows."""
    attack = _colluding_attack(scenario, round, client)
    if attack is None:
        return None
    roles = {c: scenario.role(round=round, client=c) for c in sample_cohort(scenario, round)}
    together = tuple(c for c, r in roles.items() if isinstance(r, Poisoning) and r.update == attack)
    honest = tuple(c for c, r in roles.items() if not isinstance(r, Poisoning))
    everyone = attack.knows == "everyone" and honest
    return CollusionTask(
        known=honest if everyone else together, clients=len(roles), malicious=len(together)
    )


def _exposed(scenario: Scenario, round: int, client: int) -> bool:
    """True if a colluding client of the round knows the client's update without its defenses."""
    updates = (role.update for role in scenario.roles if isinstance(role, Poisoning))
    if not any(isinstance(each, ColludingAttack) and each.knows == "everyone" for each in updates):
        return False
    if isinstance(scenario.role(round=round, client=client), Poisoning):
        return False  # it sends an attack, or runs its defenses unseen
    found = (_collusion(scenario, round, other) for other in sample_cohort(scenario, round))
    return any(each is not None and client in each.known for each in found)


def _observes(scenario: Scenario, round: int, client: int) -> bool:
    """True if the client has an attack, now or later, that needs the last global change."""
    return any(
        isinstance(role, Poisoning)
        and role.update is not None
        and role.update.observes_global
        and client in clients
        and round <= max(rounds, default=0)
        for role, rounds, clients in scenario.schedule
    )
