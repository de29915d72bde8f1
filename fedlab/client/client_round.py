"""One round of one client, from the global weights to its payload.

The Flower ClientApp runs it, and so does the Referee, to replay what a client must have done.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor

from attacks.payload import Payload
from fedlab.client.federated_data import FederatedData
from fedlab.client.local_training import compute_payload, undefended_pipeline
from fedlab.client.poison import HonestUpdate, poison_gradient, poison_shard, poison_update
from fedlab.core.digest import digest
from fedlab.core.seeds import derive, generator, seeded
from fedlab.data.shard import Shard
from fedlab.defenses.pipeline import Batch, ClientContext, Inspection, Pipeline, Withheld
from fedlab.defenses.releases import released
from fedlab.defenses.workload import Workload
from fedlab.privacy.history_text import from_json
from fedlab.privacy.release import (
    OPEN,
    History,
    PrivacyRelease,
    longer,
    next_participation,
)
from fedlab.protocol.abstention import Abstention, abstain_over_budget
from fedlab.protocol.guarantees import opens, void_release
from fedlab.protocol.round_facts import round_facts
from fedlab.protocol.task import ClientTask
from fedlab.protocol.training_task import adjust_task
from fedlab.protocol.workload import workload
from fedlab.scenario.roles import Honest, Leaking


@dataclass(frozen=True)
class ClientUpdate:
    """The result of one round of one client.

    Attributes:
        payload: Gradient or weights that the client sends; ``None`` if it abstains.
        abstention: Why it sends nothing; ``None`` if it sends a payload.
        history: Its privacy history, this round included.
        buffers: BatchNorm statistics; empty unless the scenario shares them.
        shard: Images and labels that it trained on, poisoned ones included.
        batches: Batches as the network received them; empty unless they were asked for.
    """

    payload: Payload | None
    abstention: Abstention | None
    history: History
    buffers: Mapping[str, Tensor]
    shard: Shard
    batches: tuple[Batch, ...] = field(default=(), repr=False)

    @property
    def sent(self) -> Payload:
        """The payload of a client that does not abstain.

        Raises:
            ValueError: If the client abstains.
        """
        if self.payload is None:
            raise ValueError(f"the client sends nothing: {self.abstention}")
        return self.payload


def run_client_round(
    task: ClientTask,
    federated: FederatedData,
    global_state: Mapping[str, Tensor],
    history: History,
    *,
    trained: Payload | None = None,
    keep_batches: bool = False,
    noiseless: bool = False,
) -> ClientUpdate:
    """Carry out the task of one client.

    Args:
        task: Task of the client in this round.
        federated: Data of all clients, and the network that they share.
        global_state: Global parameters and buffers by name.
        history: Privacy history of the client before the round.
        trained: New weights of the client if it has trained together with others; they are used
            if its defenses leave the training as it is.
        keep_batches: Return the batches as well; only for the Referee.
        noiseless: Leave out the noise on gradients and updates; only for the Referee.

    Raises:
        ValueError: If a defense or a poison cannot work on this client's images, or the privacy
            histories of client and server contradict each other.
    """
    if task.history is not None:
        lost = task.unanswered if not history and task.unanswered else "[]"
        history = longer(history, (*from_json(task.history), *from_json(lost)))
    task = adjust_task(task)
    federated.load(global_state)
    if task.observes:
        parameters = {name: global_state[name] for name, _ in federated.model.named_parameters()}
        federated.cache.keep_global(task.client, task.round, parameters)
    shard = poison_shard(federated.shard(task.client), task, federated, global_state)
    federated.model.train(task.training.mode == "train")
    work = workload(task.role, task.training, len(shard))
    context = replace(
        _client_context(task, federated, shard, work, history, global_state),
        noiseless=noiseless,
        replay=keep_batches or noiseless,
    )
    batches: list[Batch] = []
    pipeline = undefended_pipeline(context, work)
    if keep_batches:
        pipeline = replace(pipeline, observers=(batches.append,))
    seed = derive(federated.seed, "defenses", task.round, task.client)
    # A network that draws, such as one with a bottleneck, draws the same for defenses in a replay.
    with seeded(seed, federated.device) if task.defenses else nullcontext():
        pipeline, payload, abstention = _run_pipeline(pipeline, context, task, federated, trained)
    buffers = {} if payload is None else _shared_buffers(federated, task)
    if payload is not None:
        payload = poison_update(
            payload,
            task,
            global_state,
            honest=_honest_updates(task, federated, global_state),
            earlier=lambda: _before(task, federated),
            generator=generator(federated.seed, "poisoned update", task.round, task.client),
        )
    opened = bool(buffers) or opens(task)
    releases = tuple(
        void_release(each, task)
        for each in _privacy_releases(pipeline, context, abstention, opened=opened)
    )
    return ClientUpdate(
        payload=payload,
        abstention=abstention,
        history=(*history, *releases),
        buffers=buffers,
        shard=shard,
        batches=tuple(batches),
    )


def _client_context(
    task: ClientTask,
    federated: FederatedData,
    shard: Shard,
    work: Workload,
    history: History,
    global_state: Mapping[str, Tensor],
) -> ClientContext:
    """The inputs of the client's defenses."""
    participation, leaking = next_participation(history), isinstance(task.role, Leaking)
    knowledge = round_facts(task, task.defenses, history).knowledge(
        shape=federated.data.shape,
        num_classes=federated.data.num_classes,
        mean=federated.data.mean,
        std=federated.data.std,
        kind="gradient" if leaking else "weights",
        num_images=len(shard),
    )
    return ClientContext(
        model=federated.model,
        shard=shard,
        round=task.round,
        participation=participation,
        history=history,
        sent=global_state,
        network_input=federated.data.normalise,
        stream=federated.stream(task.round, task.client),
        lasting=federated.stream(task.client),
        noise=_noise_generator(task, federated, participation),
        known=knowledge,
        epochs=work.epochs,
        poisson=work.poisson,
        public=federated.test,
        published=task.published,
        leaking=leaking,
    )


def _run_pipeline(
    pipeline: Pipeline,
    context: ClientContext,
    task: ClientTask,
    federated: FederatedData,
    trained: Payload | None,
) -> tuple[Pipeline, Payload | None, Abstention | None]:
    """Compute the client's payload under its defenses, or the reason why it sends none."""
    payload, sampler = None, pipeline.sampler
    try:
        for defense in task.defenses:
            pipeline = defense.apply(pipeline, context)
        abstention = abstain_over_budget(task, context.history, pipeline.planned)
        if abstention is None:
            pipeline = poison_gradient(
                pipeline, task, context.model, context.sent, lambda: _before(task, federated)
            )
            if trained is not None and pipeline.leaves_training and pipeline.sampler is sampler:
                payload = trained
            else:
                payload = compute_payload(task, federated, context.shard, pipeline, context.sent)
            payload = released(payload, pipeline.releases, context.sent)
    finally:
        for close in pipeline.close:
            close()
    if payload is not None:
        abstention = _inspect(payload, pipeline.inspections)
    return pipeline, None if abstention else payload, abstention


def _before(task: ClientTask, federated: FederatedData) -> Mapping[str, Tensor] | None:
    """Global parameters that the client received before; ``None`` if it keeps none."""
    return federated.cache.global_before(task.client, task.round)


def _inspect(payload: Payload, inspections: Sequence[Inspection]) -> Abstention | None:
    """The client's abstention if an inspection rejects the payload."""
    try:
        for inspect in inspections:
            inspect(payload)
    except Withheld as reason:
        return Abstention("withheld", str(reason))
    return None


def _honest_updates(
    task: ClientTask, federated: FederatedData, global_state: Mapping[str, Tensor]
) -> HonestUpdate:
    """Updates that clients send in this round if they are honest and run no defense.

    All colluding clients ask for the same ones, so the cache keeps those of the current round.
    """

    @cache
    def state_digest() -> str:
        federated.cache.forget("honest ", but=(found := digest(global_state)))
        return found

    def honest(client: int) -> Payload:
        own = {"client": client, "role": Honest(), "defenses": ()}
        own |= {"history": None, "unanswered": None}
        honest_task = task.model_copy(update={**own, "collusion": None, "observes": False})

        def make() -> dict[str, Tensor]:
            return dict(run_client_round(honest_task, federated, global_state, ()).sent.tensors)

        key = f"{state_digest()} {honest_task.model_dump_json()}"
        tensors = federated.cache.take(f"honest {client}", key, make, lasting=False)
        return Payload("weights", tensors, num_examples=len(federated.shard(client)), steps=1)

    return honest


def _privacy_releases(
    pipeline: Pipeline, context: ClientContext, abstention: Abstention | None, *, opened: bool
) -> tuple[PrivacyRelease, ...]:
    """Privacy cost of the round; nothing if the client abstained before it used its images."""
    if abstention is not None and abstention.status == "budget":
        return ()
    releases = tuple(charge() for charge in pipeline.charges)
    if opened or not releases:
        return (PrivacyRelease(context.round, context.participation, OPEN),)
    return releases


def _shared_buffers(federated: FederatedData, task: ClientTask) -> dict[str, Tensor]:
    if not task.training.share_buffers:
        return {}
    return {name: value.detach().clone() for name, value in federated.model.named_buffers()}


def _noise_generator(
    task: ClientTask, federated: FederatedData, participation: int
) -> torch.Generator:
    """The generator of DP noise; two different releases never share one.

    Its key is the number of earlier participations, which grows when a round is run again, and the
    settings of the defenses: the same noise at two scales would cancel out.
    """
    settings = [entry.model_dump_json(exclude={"rounds", "clients"}) for entry in task.defenses]
    key = derive(0, " ".join(settings))
    return generator(
        federated.seed, "dp noise", task.client, participation, key, device=federated.device
    )
