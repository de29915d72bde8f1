"""One participation of one client, from the global weights to its payload; plain PyTorch.

The Flower app calls it, and so does the Referee, who rehearses what the client must have
done; nothing here knows about messages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor

from attacks.payload import Payload
from fedlab.client.federated_data import FederatedData
from fedlab.client.poison import HonestUpdate, adjust_task, poison_shard, poison_update
from fedlab.core.digest import digest
from fedlab.core.seeds import derive, generator, seeded
from fedlab.data.shard import Shard
from fedlab.defenses.pipeline import (
    Batch,
    ClientContext,
    Inspection,
    Pipeline,
    PlainGradient,
    Withheld,
    shuffled,
    single,
    unchanged,
)
from fedlab.defenses.releases import released
from fedlab.privacy.release import (
    OPEN,
    History,
    PrivacyRelease,
    from_json,
    longer,
    next_participation,
)
from fedlab.protocol.abstention import Abstention, abstain_over_budget
from fedlab.protocol.round_facts import round_facts
from fedlab.protocol.task import ClientTask
from fedlab.protocol.workload import Workload, workload
from fedlab.scenario.roles import Honest, Leaking


@dataclass(frozen=True)
class ClientUpdate:
    """What a client did in a round.

    Attributes:
        payload: What it sends; ``None`` if it declines to.
        declined: Why it does, ``budget`` or ``withheld``, and in a sentence.
        history: Its privacy spending so far, this round included.
        buffers: BatchNorm statistics, only where the scenario shares them.
        trace: The batches as the network saw them, kept only for the Referee.
        shard: The images it worked on, poisoned ones included.
    """

    payload: Payload | None
    declined: Abstention | None
    history: History
    buffers: Mapping[str, Tensor]
    shard: Shard
    trace: tuple[Batch, ...] = field(default=(), repr=False)

    @property
    def sent(self) -> Payload:
        """The payload of a client that did not decline.

        Raises:
            ValueError: If it did.
        """
        if self.payload is None:
            raise ValueError(f"the client declined: {self.declined}")
        return self.payload


def run_client_round(
    task: ClientTask,
    federated: FederatedData,
    global_state: Mapping[str, Tensor],
    history: History,
    *,
    keep_trace: bool = False,
    noiseless: bool = False,
) -> ClientUpdate:
    """Carry out one client's task.

    Args:
        task: Its orders.
        federated: Its images and network.
        global_state: The global parameters and buffers by name.
        history: Its privacy spending before this round.
        keep_trace: Remember the batches (for the Referee).
        noiseless: Leave the noise on gradients and updates out (for the Referee).

    Raises:
        ValueError: If a defense cannot work on this client's images, or the histories of
            client and server disagree.
    """
    if task.history is not None:
        history = longer(history, from_json(task.history))
    task = adjust_task(task)
    federated.load(global_state)
    shard = poison_shard(federated.shard(task.client), task, federated, global_state)
    federated.model.train(task.training.mode == "train")
    participation = next_participation(history)
    todo = workload(task.role, task.training, len(shard))
    context = ClientContext(
        model=federated.model,
        shard=shard,
        round=task.round,
        participation=participation,
        history=history,
        sent=global_state,
        network_input=federated.data.normalise,
        stream=federated.stream(task.round, task.client),
        lasting=federated.stream(task.client),
        noise=_noise(task, federated, participation),
        known=round_facts(task, task.defenses, history).knowledge(
            shape=federated.data.shape,
            num_classes=federated.data.num_classes,
            mean=federated.data.mean,
            std=federated.data.std,
            kind="gradient" if isinstance(task.role, Leaking) else "weights",
            num_images=len(shard),
        ),
        epochs=todo.epochs,
        poisson=todo.poisson,
        leaking=isinstance(task.role, Leaking),
        noiseless=noiseless,
        replay=keep_trace or noiseless,
    )
    pipeline = _open_pipeline(context, todo)
    trace: list[Batch] = []
    if keep_trace:
        pipeline = replace(pipeline, observers=(trace.append,))
    payload, declined = None, None
    try:
        for defense in task.defenses:
            pipeline = defense.apply(pipeline, context)
        declined = abstain_over_budget(task, history, pipeline.planned)
        if declined is None:
            batches = _batches(pipeline, shard, federated)
            with seeded(
                derive(federated.seed, "layers", task.round, task.client), federated.device
            ):
                if isinstance(task.role, Leaking):
                    payload = _raw_gradient(batches, pipeline, federated)
                else:
                    payload = _local_training(batches, pipeline, federated, task, global_state)
            payload = released(payload, pipeline.releases, global_state)
    finally:
        for close in pipeline.close:
            close()
    if payload is not None:
        declined = _withheld(payload, pipeline.inspections)
        payload = None if declined else payload
    buffers = _buffers(federated, task) if payload is not None else {}
    if payload is not None:
        payload = poison_update(
            payload,
            task,
            global_state,
            honest=_honest(task, federated, global_state),
            generator=generator(federated.seed, "poisoned update", task.round, task.client),
        )
    return ClientUpdate(
        payload=payload,
        declined=declined,
        history=(
            *history,
            *_spent(pipeline, context, declined, opened=bool(buffers) or _opens(task)),
        ),
        buffers=buffers,
        shard=shard,
        trace=tuple(trace),
    )


def _honest(
    task: ClientTask, federated: FederatedData, global_state: Mapping[str, Tensor]
) -> HonestUpdate:
    """What clients send in this round if they are honest and run no defense.

    Colluders ask for the same ones each, so those of a round are remembered.
    """

    @cache
    def now() -> str:
        federated.cache.forget("honest ", but=(found := digest(global_state)))
        return found

    def honest(client: int) -> Payload:
        orders = task.model_copy(
            update={
                "client": client,
                "role": Honest(),
                "defenses": (),
                "history": None,
                "collusion": None,
            }
        )

        def make() -> dict[str, Tensor]:
            return dict(run_client_round(orders, federated, global_state, ()).sent.tensors)

        key = f"{now()} {orders.model_dump_json()}"
        tensors = federated.cache.take(f"honest {client}", key, make, lasting=False)
        return Payload("weights", tensors, num_examples=len(federated.shard(client)), steps=1)

    return honest


def _withheld(payload: Payload, inspections: Sequence[Inspection]) -> Abstention | None:
    """Why the client keeps its update to itself, if it does."""
    try:
        for inspect in inspections:
            inspect(payload)
    except Withheld as reason:
        return Abstention("withheld", str(reason))
    return None


def _spent(
    pipeline: Pipeline, context: ClientContext, declined: Abstention | None, *, opened: bool
) -> tuple[PrivacyRelease, ...]:
    """The entries of this participation; none if the client declined before it looked."""
    if declined is not None and declined.status == "budget":
        return ()
    spent = tuple(charge() for charge in pipeline.charges)
    if opened or not spent:
        return (PrivacyRelease(context.round, context.participation, OPEN),)
    return spent


def _opens(task: ClientTask) -> bool:
    """True if a defense neither claims an epsilon nor states that those of others still hold."""
    return any(not each.keeps_guarantees and each.account is None for each in task.defenses)


def _buffers(federated: FederatedData, task: ClientTask) -> dict[str, Tensor]:
    if not task.training.share_buffers:
        return {}
    return {name: value.detach().clone() for name, value in federated.model.named_buffers()}


def _noise(task: ClientTask, federated: FederatedData, participation: int) -> torch.Generator:
    """The stream of DP noise; two different releases never share one.

    It is keyed by the client's count of participations, which a round that is run again raises,
    and by the settings, since the same noise at two scales would cancel out.
    """
    what = [entry.model_dump_json(exclude={"rounds", "clients"}) for entry in task.defenses]
    settings = derive(0, " ".join(what))
    return generator(
        federated.seed, "dp noise", task.client, participation, settings, device=federated.device
    )


def _open_pipeline(context: ClientContext, todo: Workload) -> Pipeline:
    """What the client would do with no defense on."""
    n, size, stream = len(context.shard), todo.batch_size, context.stream("batches")
    if context.leaking:
        sampler = single(n, batch_size=size, generator=stream)
    else:
        sampler = shuffled(n, batch_size=size, epochs=todo.epochs, generator=stream)
    return Pipeline(
        sampler=sampler,
        transform=unchanged,
        gradient=PlainGradient(context.model),
        batch_size=size,
        batches=todo.steps,
        records=todo.records,
    )


def _batches(
    pipeline: Pipeline, shard: Shard, federated: FederatedData
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and labels of every local step."""
    for members in pipeline.sampler():
        members = members.to(federated.device)
        raw = (
            _as_they_are(members, shard, federated)
            if pipeline.held is None
            else pipeline.held(members)
        )
        batch = pipeline.transform(raw)
        for observe in pipeline.observers:
            observe(batch)
        yield federated.data.normalise(batch.pixels), batch.labels


def _as_they_are(members: Tensor, shard: Shard, federated: FederatedData) -> Batch:
    return Batch(
        members=members,
        sources=members.unsqueeze(1),
        pixels=federated.data.pixels(shard.images[members]),
        labels=shard.labels[members],
    )


def _raw_gradient(
    batches: Iterator[tuple[Tensor, Tensor]], pipeline: Pipeline, federated: FederatedData
) -> Payload:
    for images, labels in batches:
        pipeline.gradient(images, labels)
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in federated.model.named_parameters()
    }
    return Payload("gradient", gradients, num_examples=pipeline.batch_size, steps=1)


def _local_training(
    batches: Iterator[tuple[Tensor, Tensor]],
    pipeline: Pipeline,
    federated: FederatedData,
    task: ClientTask,
    global_state: Mapping[str, Tensor],
) -> Payload:
    optimizer = torch.optim.SGD(
        federated.model.parameters(),
        lr=task.lr,
        momentum=task.training.momentum,
        weight_decay=task.training.weight_decay,
    )
    steps = 0
    for images, labels in batches:
        pipeline.gradient(images, labels)
        if task.proximal_mu:
            _pull_back(federated, global_state, task.proximal_mu)
        optimizer.step()
        steps += 1
    weights = {name: p.detach().clone() for name, p in federated.model.named_parameters()}
    return Payload(
        "weights", weights, num_examples=pipeline.records // task.training.epochs, steps=steps
    )


def _pull_back(federated: FederatedData, global_state: Mapping[str, Tensor], mu: float) -> None:
    """FedProx' proximal term: the gradient of mu/2 ||w - w_global||^2 (Li et al. 2020, eq. 2)."""
    for name, parameter in federated.model.named_parameters():
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - global_state[name], alpha=mu)
