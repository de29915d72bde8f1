"""The computation of one client in a round: batches, gradients and local SGD steps."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from attacks.payload import Payload
from fedlab.client.federated_data import FederatedData
from fedlab.client.sgd import LocalStep
from fedlab.core.seeds import derive, seeded
from fedlab.data.shard import Shard
from fedlab.defenses.base import DEFENSES
from fedlab.defenses.pipeline import (
    Batch,
    ClientContext,
    Pipeline,
    PlainGradient,
    Sampler,
    Streams,
    shuffled,
    single,
    unchanged,
)
from fedlab.defenses.workload import Workload
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking

AT_ONCE = 2**22
"""Largest number of values in the images of a client that are converted before the first step."""


BATCHES = "batches"
"""Purpose of the draws that choose the images of every batch."""


def honest_batches(images: int, *, batch_size: int, epochs: int, stream: Streams) -> Sampler:
    """Return the batches of a client that sends new weights and runs no defense.

    Args:
        images: Number of images of the client.
        batch_size: Number of images in a batch; the last one of an epoch may be smaller.
        epochs: Passes over the images.
        stream: Returns the client's generator of the round for a purpose.
    """
    return shuffled(images, batch_size=batch_size, epochs=epochs, generator=stream(BATCHES))


def undefended_pipeline(context: ClientContext, work: Workload) -> Pipeline:
    """Return the pipeline of a client that runs no defense."""
    images, size = len(context.shard), work.batch_size
    if context.leaking:
        sampler = single(images, batch_size=size, generator=context.stream(BATCHES))
    else:
        sampler = honest_batches(images, batch_size=size, epochs=work.epochs, stream=context.stream)
    return Pipeline(
        sampler=sampler,
        transform=unchanged,
        gradient=PlainGradient(context.model),
        batch_size=size,
        batches=work.steps,
        records=work.records,
    )


def compute_payload(
    task: ClientTask,
    federated: FederatedData,
    shard: Shard,
    pipeline: Pipeline,
    global_state: Mapping[str, Tensor],
) -> Payload:
    """Compute the gradient or the new weights of a client, before the changes of its update.

    Args:
        task: Task of the client.
        federated: The network at the global weights; it is trained in place.
        shard: Images and labels of the client.
        pipeline: Batches and gradients under the defenses of the round.
        global_state: Global parameters and buffers by name.
    """
    batches = _batches(pipeline, shard, federated)
    seed = derive(federated.seed, "layers", task.round, task.client)
    with seeded(seed, federated.device):
        if isinstance(task.role, Leaking):
            return _gradient(batches, pipeline, federated)
        return _train(batches, pipeline, federated, task, global_state)


def _batches(
    pipeline: Pipeline, shard: Shard, federated: FederatedData
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images and labels for every local step."""
    if pipeline.leaves_images and _worth_converting_at_once(pipeline, shard):
        inputs = federated.network_input(shard.images)
        for members in pipeline.sampler():
            members = members.to(federated.device)
            yield inputs[members], shard.labels[members]
        return
    for members in pipeline.sampler():
        members = members.to(federated.device)
        raw = (
            _unchanged_batch(members, shard, federated)
            if pipeline.held is None
            else pipeline.held(members)
        )
        batch = pipeline.transform(raw)
        for observe in pipeline.observers:
            observe(batch)
        yield federated.data.normalise(batch.pixels), batch.labels


def _worth_converting_at_once(pipeline: Pipeline, shard: Shard) -> bool:
    """Whether to convert all images of a client before the first step, and not those of a batch."""
    return pipeline.records >= len(shard) and shard.images.numel() <= AT_ONCE


def _unchanged_batch(members: Tensor, shard: Shard, federated: FederatedData) -> Batch:
    return Batch(
        members=members,
        sources=members.unsqueeze(1),
        pixels=federated.data.pixels(shard.images[members]),
        labels=shard.labels[members],
    )


def _gradient(
    batches: Iterator[tuple[Tensor, Tensor]], pipeline: Pipeline, federated: FederatedData
) -> Payload:
    for images, labels in batches:
        pipeline.gradient(images, labels)
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in federated.model.named_parameters()
    }
    return Payload("gradient", gradients, num_examples=pipeline.batch_size, steps=1)


def _train(
    batches: Iterator[tuple[Tensor, Tensor]],
    pipeline: Pipeline,
    federated: FederatedData,
    task: ClientTask,
    global_state: Mapping[str, Tensor],
) -> Payload:
    step, steps = _step(pipeline, federated, task, global_state), 0
    for images, labels in batches:
        step(images, labels)
        steps += 1
    weights = {name: p.detach().clone() for name, p in federated.model.named_parameters()}
    return Payload(
        "weights", weights, num_examples=pipeline.records // task.training.epochs, steps=steps
    )


def _step(
    pipeline: Pipeline,
    federated: FederatedData,
    task: ClientTask,
    global_state: Mapping[str, Tensor],
) -> Callable[[Tensor, Tensor], None]:
    """The step of local SGD: recorded where a replay does the same, and computed elsewhere."""
    recorded = federated.recorded_steps
    if recorded is not None and _may_be_recorded(pipeline, federated, task):
        return recorded.step_of(task, global_state)
    parameters = dict(federated.model.named_parameters())
    return LocalStep(parameters, pipeline.gradient, task, global_state)


def _may_be_recorded(pipeline: Pipeline, federated: FederatedData, task: ClientTask) -> bool:
    """True if nothing but batches and weights differs from one step to the next.

    A defense from outside of this package may change the network by means that are not in the
    pipeline, such as hooks, which a replay would pass over.
    """
    return (
        pipeline.leaves_gradient
        and all(DEFENSES.is_builtin(entry.name) for entry in task.defenses)
        and not any(isinstance(layer, _DropoutNd) for layer in federated.model.modules())
    )
