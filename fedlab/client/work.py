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
from fedlab.announced import announced
from fedlab.client.declined import Declined, over_budget
from fedlab.client.plan import Plan
from fedlab.client.poison import AsHonest, as_carried_out, poison_shard, poison_update
from fedlab.client.roles import Honest, Leaking
from fedlab.client.site import Site
from fedlab.client.workload import Workload, workload
from fedlab.defenses import defense
from fedlab.defenses.pipeline import (
    Batch,
    Circumstances,
    Inspection,
    Pipeline,
    PlainGradient,
    Shard,
    Withheld,
    shuffled,
    single,
    unchanged,
)
from fedlab.defenses.releases import released
from fedlab.digest import digest
from fedlab.privacy.spending import History, Spending, from_json, longer, next_participation
from fedlab.seeds import derive, generator, seeded


@dataclass(frozen=True)
class Work:
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
    declined: Declined | None
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


def work(
    plan: Plan,
    site: Site,
    global_state: Mapping[str, Tensor],
    history: History,
    *,
    keep_trace: bool = False,
    noiseless: bool = False,
) -> Work:
    """Carry out one client's plan.

    Args:
        plan: Its orders.
        site: Its images and network.
        global_state: The global parameters and buffers by name.
        history: Its privacy spending before this round.
        keep_trace: Remember the batches (for the Referee).
        noiseless: Leave the noise on gradients and updates out (for the Referee).

    Raises:
        ValueError: If a defense cannot work on this client's images, or the histories of
            client and server disagree.
    """
    if plan.history is not None:
        history = longer(history, from_json(plan.history))
    plan = as_carried_out(plan)
    site.load(global_state)
    shard = poison_shard(site.shard(plan.client), plan, site, global_state)
    site.model.train(plan.training.mode == "train")
    participation = next_participation(history)
    todo = workload(plan.role, plan.training, len(shard))
    around = Circumstances(
        model=site.model,
        shard=shard,
        round=plan.round,
        participation=participation,
        history=history,
        sent=global_state,
        network_input=site.data.normalise,
        stream=site.stream(plan.round, plan.client),
        lasting=site.stream(plan.client),
        noise=_noise(plan, site, participation),
        known=announced(plan, plan.defenses, history).knowledge(
            shape=site.data.shape,
            num_classes=site.data.num_classes,
            mean=site.data.mean,
            std=site.data.std,
            kind="gradient" if isinstance(plan.role, Leaking) else "weights",
            num_images=len(shard),
        ),
        epochs=todo.epochs,
        poisson=todo.poisson,
        leaking=isinstance(plan.role, Leaking),
        noiseless=noiseless,
        rehearsal=keep_trace or noiseless,
    )
    pipeline = _open_pipeline(around, todo)
    trace: list[Batch] = []
    if keep_trace:
        pipeline = replace(pipeline, observers=(trace.append,))
    payload, declined = None, None
    try:
        for settings in plan.defenses:
            pipeline = defense(settings).wrap(pipeline, around)
        declined = over_budget(plan, history, pipeline.planned)
        if declined is None:
            batches = _batches(pipeline, shard, site)
            with seeded(derive(site.seed, "layers", plan.round, plan.client), site.device):
                if isinstance(plan.role, Leaking):
                    payload = _raw_gradient(batches, pipeline, site)
                else:
                    payload = _local_training(batches, pipeline, site, plan, global_state)
            payload = released(payload, pipeline.releases, global_state)
    finally:
        for close in pipeline.close:
            close()
    if payload is not None:
        declined = _withheld(payload, pipeline.inspections)
        payload = None if declined else payload
    buffers = _buffers(site, plan) if payload is not None else {}
    if payload is not None:
        payload = poison_update(
            payload,
            plan,
            global_state,
            honest=_honest(plan, site, global_state),
            generator=generator(site.seed, "poisoned update", plan.round, plan.client),
        )
    return Work(
        payload=payload,
        declined=declined,
        history=(*history, *_spent(pipeline, around, declined, shared=bool(buffers))),
        buffers=buffers,
        shard=shard,
        trace=tuple(trace),
    )


def _honest(plan: Plan, site: Site, global_state: Mapping[str, Tensor]) -> AsHonest:
    """What clients send in this round if they are honest and run no defense.

    Colluders ask for the same ones each, so those of a round are remembered.
    """

    @cache
    def now() -> str:
        site.shelf.forget("honest ", but=(found := digest(global_state)))
        return found

    def honest(client: int) -> Payload:
        orders = plan.model_copy(
            update={
                "client": client,
                "role": Honest(),
                "defenses": (),
                "history": None,
                "collusion": None,
            }
        )

        def make() -> dict[str, Tensor]:
            return dict(work(orders, site, global_state, ()).sent.tensors)

        key = f"{now()} {orders.model_dump_json()}"
        tensors = site.shelf.take(f"honest {client}", key, make, lasting=False)
        return Payload("weights", tensors, num_examples=len(site.shard(client)), steps=1)

    return honest


def _withheld(payload: Payload, inspections: Sequence[Inspection]) -> Declined | None:
    """Why the client keeps its update to itself, if it does."""
    try:
        for inspect in inspections:
            inspect(payload)
    except Withheld as reason:
        return Declined("withheld", str(reason))
    return None


def _spent(
    pipeline: Pipeline, around: Circumstances, declined: Declined | None, *, shared: bool
) -> tuple[Spending, ...]:
    """The entries of this participation; none if the client declined before it looked."""
    if declined is not None and declined.status == "budget":
        return ()
    spent = tuple(charge() for charge in pipeline.charges)
    if shared or not spent:  # shared statistics undo every defense
        return (Spending(around.round, around.participation, "none"),)
    return spent


def _buffers(site: Site, plan: Plan) -> dict[str, Tensor]:
    if not plan.training.share_buffers:
        return {}
    return {name: value.detach().clone() for name, value in site.model.named_buffers()}


def _noise(plan: Plan, site: Site, participation: int) -> torch.Generator:
    """The stream of DP noise; two different releases never share one.

    It is keyed by the client's count of participations, which a round that is run again raises,
    and by the settings, since the same noise at two scales would cancel out.
    """
    what = [entry.model_dump_json(exclude={"rounds", "clients"}) for entry in plan.defenses]
    settings = derive(0, " ".join(what))
    return generator(
        site.seed, "dp noise", plan.client, participation, settings, device=site.device
    )


def _open_pipeline(around: Circumstances, todo: Workload) -> Pipeline:
    """What the client would do with no defense on."""
    n, size, stream = len(around.shard), todo.batch_size, around.stream("batches")
    if around.leaking:
        sampler = single(n, batch_size=size, generator=stream)
    else:
        sampler = shuffled(n, batch_size=size, epochs=todo.epochs, generator=stream)
    return Pipeline(
        sampler=sampler,
        transform=unchanged,
        gradient=PlainGradient(around.model),
        batch_size=size,
        batches=todo.steps,
        records=todo.records,
    )


def _batches(pipeline: Pipeline, shard: Shard, site: Site) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and labels of every local step."""
    for members in pipeline.sampler():
        members = members.to(site.device)
        raw = (
            _as_they_are(members, shard, site) if pipeline.held is None else pipeline.held(members)
        )
        batch = pipeline.transform(raw)
        for observe in pipeline.observers:
            observe(batch)
        yield site.data.normalise(batch.pixels), batch.labels


def _as_they_are(members: Tensor, shard: Shard, site: Site) -> Batch:
    return Batch(
        members=members,
        sources=members.unsqueeze(1),
        pixels=site.data.pixels(shard.images[members]),
        labels=shard.labels[members],
    )


def _raw_gradient(
    batches: Iterator[tuple[Tensor, Tensor]], pipeline: Pipeline, site: Site
) -> Payload:
    for images, labels in batches:
        pipeline.gradient(images, labels)
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in site.model.named_parameters()
    }
    return Payload("gradient", gradients, num_examples=pipeline.batch_size, steps=1)


def _local_training(
    batches: Iterator[tuple[Tensor, Tensor]],
    pipeline: Pipeline,
    site: Site,
    plan: Plan,
    global_state: Mapping[str, Tensor],
) -> Payload:
    optimizer = torch.optim.SGD(
        site.model.parameters(),
        lr=plan.lr,
        momentum=plan.training.momentum,
        weight_decay=plan.training.weight_decay,
    )
    steps = 0
    for images, labels in batches:
        pipeline.gradient(images, labels)
        if plan.proximal_mu:
            _pull_back(site, global_state, plan.proximal_mu)
        optimizer.step()
        steps += 1
    weights = {name: p.detach().clone() for name, p in site.model.named_parameters()}
    return Payload(
        "weights", weights, num_examples=pipeline.records // plan.training.epochs, steps=steps
    )


def _pull_back(site: Site, global_state: Mapping[str, Tensor], mu: float) -> None:
    """FedProx' proximal term: the gradient of mu/2 ||w - w_global||^2 (Li et al. 2020, eq. 2)."""
    for name, parameter in site.model.named_parameters():
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - global_state[name], alpha=mu)
