"""A poisoning client: how it trains, on which images, and what it sends."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from attacks.model_poisoning.vectors import flatten, unflatten
from attacks.payload import Payload
from fedlab.client.federated_data import FederatedData
from fedlab.core.seeds import derive, generator
from fedlab.data.shard import Shard
from fedlab.defenses.changed_gradient import ChangedGradient
from fedlab.defenses.pipeline import Pipeline
from fedlab.poisoning import Collusion, PoisoningContext, UpdateContext
from fedlab.poisoning.base import name_in_errors
from fedlab.poisoning.updates.base import UpdateAttack, flat_change
from fedlab.protocol.task import ClientTask
from fedlab.protocol.training_task import local_sgd
from fedlab.scenario.roles import Poisoning

HonestUpdate = Callable[[int], Payload]
"""Returns the payload that a client would send if it were honest, by partition id."""

Earlier = Callable[[], Mapping[str, Tensor] | None]
"""Returns the global parameters that the client received before; ``None`` if there are none."""


def poison_shard(
    shard: Shard, task: ClientTask, federated: FederatedData, global_state: Mapping[str, Tensor]
) -> Shard:
    """Return the images and labels that the client trains on, poisoned if its role says so.

    Raises:
        ValueError: If the poison cannot be made from these images.
        PluginFailed: If the poison raises anything else.
    """
    role = task.role
    if not isinstance(role, Poisoning) or role.data is None:
        return shard
    return role.data.apply(shard, poisoning_context(task, federated, global_state))


def poisoning_context(
    task: ClientTask, federated: FederatedData, global_state: Mapping[str, Tensor]
) -> PoisoningContext:
    """Return the inputs with which a client makes its data poison."""

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
        training=local_sgd(task),
        own=own,
        common=common,
        cache=federated.cache,
    )


def poison_gradient(
    pipeline: Pipeline,
    task: ClientTask,
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    earlier: Earlier,
) -> Pipeline:
    """Return the pipeline of a client whose attack trains some coordinates only, or as it is.

    Args:
        pipeline: The client's pipeline with its defenses.
        task: Task of the client.
        model: Network of the client, at the global weights.
        global_state: Global parameters and buffers that the client received.
        earlier: As in ``poison_update``.
    """
    role = task.role
    if not isinstance(role, Poisoning) or role.update is None:
        return pipeline
    own = dict(model.named_parameters())
    with name_in_errors(role.update):
        kept = role.update.trains(_observed(role.update, own, global_state, earlier))
        if kept is None:
            return pipeline
        factors = unflatten(kept, own)

    def partial(found: Mapping[str, Tensor], *_: Tensor) -> dict[str, Tensor]:
        return {name: gradient * factors[name] for name, gradient in found.items()}

    return replace(pipeline, gradient=ChangedGradient(model, pipeline.gradient, partial))


def poison_update(
    payload: Payload,
    task: ClientTask,
    global_state: Mapping[str, Tensor],
    *,
    honest: HonestUpdate,
    earlier: Earlier,
    generator: torch.Generator,
) -> Payload:
    """Return the payload that the client sends, poisoned if its role says so.

    Args:
        payload: Payload of the client's own training.
        task: Task of the client.
        global_state: Global parameters and buffers that the client received.
        honest: Computes the honest updates that a colluding client knows, its own included.
        earlier: Returns the global parameters that the client received before; ``None`` if none.
        generator: CPU generator of random updates, new in every round.

    Raises:
        ValueError: If the attack needs honest updates, and the client knows none.
        PluginFailed: If the attack raises anything else.
    """
    role = task.role
    if not isinstance(role, Poisoning):
        return payload
    if role.update is not None:
        together, collusion = task.collusion, None
        if together is not None:
            known = [flat_change(honest(client), global_state) for client in together.known]
            collusion = Collusion(together.clients, together.malicious, torch.stack(known))
        context = UpdateContext(
            client=task.client,
            round=task.round,
            parameters={name: global_state[name] for name in payload.tensors},
            generator=generator,
            collusion=collusion,
            observed=_observed(role.update, payload.tensors, global_state, earlier),
        )
        payload = role.update.apply(payload, context)
    return payload if role.claims is None else replace(payload, num_examples=role.claims)


def _observed(
    attack: UpdateAttack,
    names: Iterable[str],
    global_state: Mapping[str, Tensor],
    earlier: Earlier,
) -> Tensor | None:
    """Change of the global parameters that the attack has seen, ``[d]``, if it looks at one."""
    before = earlier() if attack.observes_global else None
    if before is None:
        return None
    now = {name: global_state[name] for name in names}
    return flatten({name: value - before[name].to(value.device) for name, value in now.items()})
