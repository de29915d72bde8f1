"""A poisoning client: how it trains, on which images, and what it sends instead."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from attacks.payload import Payload
from fedlab.client.federated_data import FederatedData
from fedlab.core.seeds import derive, generator
from fedlab.data.shard import Shard
from fedlab.poisoning import data_poison
from fedlab.poisoning.context import PoisoningContext
from fedlab.poisoning.settings import ConstrainAndScale
from fedlab.poisoning.updates import Collusion, tampered
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Poisoning

AsHonest = Callable[[int], Payload]
"""What a client would have sent as an honest one, by partition id."""


def as_carried_out(task: ClientTask) -> ClientTask:
    """The orders as the client follows them, if it poisons.

    Constrain-and-scale minimises ``a L + (1 - a) ||w - G||^2``, whose gradient is
    ``a (grad L + (2 (1 - a) / a) (w - G))``: a smaller learning rate and a proximal term.
    """
    role = task.role
    if not isinstance(role, Poisoning) or not isinstance(role.update, ConstrainAndScale):
        return task
    settings = role.update
    lr = task.lr if settings.lr is None else settings.lr
    epochs = settings.epochs or task.training.epochs
    return task.model_copy(
        update={
            "lr": settings.alpha * lr,
            "proximal_mu": task.proximal_mu + 2 * (1 - settings.alpha) / settings.alpha,
            "training": task.training.model_copy(update={"epochs": epochs}),
        }
    )


def poison_shard(
    shard: Shard, task: ClientTask, federated: FederatedData, global_state: Mapping[str, Tensor]
) -> Shard:
    """The shard as the client trains on it, poisoned if that is its role."""
    role = task.role
    if not isinstance(role, Poisoning) or role.data is None:
        return shard
    return data_poison(role.data).poison(shard, context(task, federated, global_state))


def context(
    task: ClientTask, federated: FederatedData, global_state: Mapping[str, Tensor]
) -> PoisoningContext:
    """What a client has at hand to make a poison with."""

    def own(purpose: str) -> torch.Generator:
        return generator(federated.seed, purpose, task.client)

    def common(purpose: str) -> torch.Generator:
        return generator(federated.seed, purpose)

    return PoisoningContext(
        client=task.client,
        round=task.round,
        model=federated.model,
        sent=global_state,
        fresh=lambda number: federated.fresh(
            derive(federated.seed, "surrogate", task.client, number)
        ),
        test=federated.test,
        network_input=federated.data.normalise,
        training=task.training.model_copy(update={"lr": task.lr}),
        own=own,
        common=common,
        cache=federated.cache,
    )


def poison_update(
    payload: Payload,
    task: ClientTask,
    global_state: Mapping[str, Tensor],
    *,
    honest: AsHonest,
    generator: torch.Generator,
) -> Payload:
    """The payload as the client sends it, poisoned if that is its role.

    Args:
        payload: What its training gave.
        task: Its orders.
        global_state: What it was sent.
        honest: Asked for the updates that the threat model lets it know, its own included.
        generator: CPU generator of random updates, fresh in every round.

    Raises:
        ValueError: If it knows no honest update, but needs one.
    """
    role = task.role
    if not isinstance(role, Poisoning):
        return payload
    if role.update is not None:
        together = task.collusion
        ring = None
        if together is not None:
            known = together.known
            ring = Collusion(
                together.clients, together.malicious, lambda: [honest(c) for c in known]
            )
        payload = tampered(payload, role.update, global_state, ring=ring, generator=generator)
    return payload if role.claims is None else replace(payload, num_examples=role.claims)
