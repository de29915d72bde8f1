"""A poisoning client: how it trains, on which images, and what it sends instead."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from attacks.payload import Payload
from fedlab.client.plan import Plan
from fedlab.client.roles import Poisoning
from fedlab.client.site import Site
from fedlab.defenses.pipeline import Shard
from fedlab.poisons import data_poison
from fedlab.poisons.settings import ConstrainAndScale
from fedlab.poisons.updates import Ring, tampered
from fedlab.poisons.workshop import Workshop
from fedlab.seeds import derive, generator

AsHonest = Callable[[int], Payload]
"""What a client would have sent as an honest one, by partition id."""


def as_carried_out(plan: Plan) -> Plan:
    """The orders as the client follows them, if it poisons.

    Constrain-and-scale minimises ``a L + (1 - a) ||w - G||^2``, whose gradient is
    ``a (grad L + (2 (1 - a) / a) (w - G))``: a smaller learning rate and a proximal term.
    """
    role = plan.role
    if not isinstance(role, Poisoning) or not isinstance(role.update, ConstrainAndScale):
        return plan
    settings = role.update
    lr = plan.lr if settings.lr is None else settings.lr
    epochs = settings.epochs or plan.training.epochs
    return plan.model_copy(
        update={
            "lr": settings.alpha * lr,
            "proximal_mu": plan.proximal_mu + 2 * (1 - settings.alpha) / settings.alpha,
            "training": plan.training.model_copy(update={"epochs": epochs}),
        }
    )


def poison_shard(shard: Shard, plan: Plan, site: Site, global_state: Mapping[str, Tensor]) -> Shard:
    """The shard as the client trains on it, poisoned if that is its role."""
    role = plan.role
    if not isinstance(role, Poisoning) or role.data is None:
        return shard
    return data_poison(role.data).poison(shard, workshop(plan, site, global_state))


def workshop(plan: Plan, site: Site, global_state: Mapping[str, Tensor]) -> Workshop:
    """What a client has at hand to make a poison with."""

    def own(purpose: str) -> torch.Generator:
        return generator(site.seed, purpose, plan.client)

    def common(purpose: str) -> torch.Generator:
        return generator(site.seed, purpose)

    return Workshop(
        client=plan.client,
        round=plan.round,
        model=site.model,
        sent=global_state,
        fresh=lambda number: site.fresh(derive(site.seed, "surrogate", plan.client, number)),
        test=site.test,
        network_input=site.data.normalise,
        training=plan.training.model_copy(update={"lr": plan.lr}),
        own=own,
        common=common,
        shelf=site.shelf,
    )


def poison_update(
    payload: Payload,
    plan: Plan,
    global_state: Mapping[str, Tensor],
    *,
    honest: AsHonest,
    generator: torch.Generator,
) -> Payload:
    """The payload as the client sends it, poisoned if that is its role.

    Args:
        payload: What its training gave.
        plan: Its orders.
        global_state: What it was sent.
        honest: Asked for the updates that the threat model lets it know, its own included.
        generator: CPU generator of random updates, fresh in every round.

    Raises:
        ValueError: If it knows no honest update, but needs one.
    """
    role = plan.role
    if not isinstance(role, Poisoning):
        return payload
    if role.update is not None:
        together = plan.collusion
        ring = None
        if together is not None:
            known = together.known
            ring = Ring(together.clients, together.malicious, lambda: [honest(c) for c in known])
        payload = tampered(payload, role.update, global_state, ring=ring, generator=generator)
    return payload if role.claims is None else replace(payload, num_examples=role.claims)
