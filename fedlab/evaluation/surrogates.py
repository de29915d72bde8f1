"""Surrogate clients: the attacker runs the clients' own training and defenses on public images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.payload import Payload
from fedlab.client.client_round import ClientUpdate, run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.seeds import derive, generator
from fedlab.defenses import AnyDefense
from fedlab.evaluation.replay import Truth, received, replay, truth_of
from fedlab.poisoning.cache import PoisonCache
from fedlab.protocol.round_facts import round_facts, summed_facts
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Honest, Leaking
from fedlab.server.attacker import Earlier
from fedlab.server.captures import Capture

SHARD = 4
"""Number of batches in the shard of a surrogate client that sends the gradient of one batch."""


@dataclass(frozen=True)
class ClientProfile:
    """One of the clients behind a capture, as far as the server knows it.

    Attributes:
        task: Task of the client.
        defenses: Defenses that its surrogates run.
        images: Number of images behind its part of the payload, at least 1.
    """

    task: ClientTask
    defenses: tuple[AnyDefense, ...]
    images: int


@dataclass(frozen=True)
class SurrogateCapture:
    """A simulated capture and everything about it.

    Attributes:
        number: Number of the simulation, counted from 0.
        capture: What the server would have received.
        tasks: Tasks of the simulated clients, by client.
        truth: The images behind the capture.
        earlier: Captures of the same images in earlier rounds, with their known order.
    """

    number: int
    capture: Capture
    tasks: Mapping[int, ClientTask]
    truth: Truth
    earlier: tuple[Earlier, ...] = ()


def surrogate_captures(
    federated: FederatedData,
    profiles: Sequence[ClientProfile],
    original: Capture,
    *,
    numbers: range,
    fished: int = 0,
    earlier: Sequence[Capture] = (),
) -> Iterator[SurrogateCapture]:
    """Simulate the clients behind a capture on other images, one simulation after another.

    They hold test images, which stand for public ones, and start from what the server sent, which a
    malicious server has tampered with. The updates of several clients are summed as the server sums
    them. A simulation in which a client sends nothing is left out.

    Args:
        federated: Data set, and the network of the federation.
        profiles: The clients to simulate, at least one: all clients behind the capture, or one.
        original: The captured update.
        numbers: Numbers of the simulations; two with different numbers use different images as far
            as there are enough.
        fished: Number of images of the class that a malicious server fished for, in the batch of
            each client.
        earlier: Earlier captures of the clients, each of all of their images, to simulate as well.
    """
    labels, target = federated.data.test_labels.cpu(), original.facts.target
    wanted = torch.zeros_like(labels, dtype=torch.bool) if target is None else labels == target
    if fished and not wanted.any():
        return
    shard = 1 if earlier else SHARD
    public = _dealt(federated, profiles, numbers.stop, wanted=wanted, fished=fished, shard=shard)
    for number in numbers:
        tasks, done = _simulated(public, profiles, original, number)
        if any(each.payload is None for each in done):
            continue
        capture = _captured(original, tasks, done)
        truth = replay(public, capture, tasks, {})
        before = [_again(public, profiles, each, number, truth) for each in earlier]
        if len(truth.inputs):
            sent = tuple(each for each in before if each is not None)
            yield SurrogateCapture(number, capture, tasks, truth, sent)


def surrogate_examples(
    federated: FederatedData,
    profiles: Sequence[ClientProfile],
    original: Capture,
    *,
    numbers: range,
    part: slice,
) -> Iterator[SurrogateCapture]:
    """Simulate clients like ``surrogate_captures``, by the thousand, on a part of the images.

    Each client trains once, and no replay checks what it sent.

    Args:
        federated: Data set, and the network of the federation.
        profiles: The clients to simulate, at least one.
        original: The captured update, of no malicious server.
        numbers: Numbers of the simulations; two with different numbers draw different noise.
        part: Part of the public images to use, in the order in which they are dealt. Those of
            ``surrogate_captures`` are the first ones, ``images_dealt`` for each of its numbers.
    """
    everything = torch.zeros(len(federated.data.test_labels), dtype=torch.bool)
    public = _dealt(federated, profiles, numbers.stop, wanted=everything, fished=0, part=part)
    for number in numbers:
        tasks, done = _simulated(public, profiles, original, number, keep_batches=True)
        if any(each.payload is None for each in done):
            continue
        truth = truth_of([*tasks], done)
        if len(truth.inputs):
            yield SurrogateCapture(number, _captured(original, tasks, done), tasks, truth)


def images_dealt(profiles: Sequence[ClientProfile], images: int) -> int:
    """Number of public images, of this many, that the clients of one simulation hold."""
    return sum(_shard_sizes(profiles, images, fished=0))


def _again(
    public: FederatedData,
    profiles: Sequence[ClientProfile],
    original: Capture,
    number: int,
    truth: Truth,
) -> Earlier | None:
    """The update of a simulation in an earlier round; ``None`` if a client sent nothing."""
    past = [
        replace(each, task=each.task.model_copy(update={"round": original.round}))
        for each in profiles
    ]
    tasks, done = _simulated(public, past, original, number, keep_batches=True)
    if any(each.payload is None for each in done):
        return None
    return Earlier(_captured(original, tasks, done), truth_of([*tasks], done).order_in(truth))


def _simulated(
    public: FederatedData,
    profiles: Sequence[ClientProfile],
    original: Capture,
    number: int,
    *,
    keep_batches: bool = False,
) -> tuple[dict[int, ClientTask], list[ClientUpdate]]:
    """The tasks of one simulation by client, and what the clients did."""
    tasks = {task.client: task for task in _tasks(profiles, number)}
    state = original.global_state
    return tasks, [
        run_client_round(task, public, state, (), keep_batches=keep_batches)
        for task in tasks.values()
    ]


def _tasks(profiles: Sequence[ClientProfile], number: int) -> list[ClientTask]:
    """Tasks of one simulation; each client has a number of its own."""
    return [
        each.task.model_copy(
            update={
                "client": len(profiles) * number + place,
                "role": each.task.role if isinstance(each.task.role, Leaking) else Honest(),
                "defenses": each.defenses,
                "history": None,
                "collusion": None,
                "exposed": False,
                "observes": False,
            }
        )
        for place, each in enumerate(profiles)
    ]


def _captured(
    original: Capture, tasks: Mapping[int, ClientTask], done: Sequence[ClientUpdate]
) -> Capture:
    """What the server would have received, with the facts that it would have known."""
    facts = summed_facts([round_facts(task, task.defenses) for task in tasks.values()])
    sent = [original.global_state] * len(done)
    payload: Payload = received(done, [*tasks.values()], sent)
    seen = {n: t for n, t in payload.tensors.items() if n in original.payload.tensors}
    return Capture(
        original.round,
        tuple(tasks),
        original.global_state,
        replace(payload, tensors=seen),
        replace(facts, malicious=original.facts.malicious, target=original.facts.target),
    )


def _dealt(
    federated: FederatedData,
    profiles: Sequence[ClientProfile],
    count: int,
    *,
    wanted: Tensor,
    fished: int,
    part: slice = slice(None),
    shard: int = SHARD,
) -> FederatedData:
    """The test images, dealt to surrogate clients; an image may go to several of them.

    Args:
        federated: Data set, and the network of the federation.
        profiles: The clients of a simulation.
        count: Number of simulations.
        wanted: bool ``[test images]``, those of the class that a malicious server fished for.
        fished: Number of such images in the shard of each client, which is then its batch.
        part: Part of the other images that is dealt, in their order.
        shard: Number of batches in the shard of a client that sends the gradient of one.
    """
    data, seed = federated.data, derive(federated.seed, "surrogates")
    order = torch.randperm(len(wanted), generator=generator(seed, "deal"))
    others = order[~wanted[order]][part]
    sizes = _shard_sizes(profiles, len(others), fished=fished, shard=shard) * count
    parts = zip(
        _split(order[wanted[order]], [fished] * len(sizes)), _split(others, sizes), strict=True
    )
    return replace(
        federated,
        seed=seed,
        data=replace(data, train_images=data.test_images, train_labels=data.test_labels),
        partitions=tuple(torch.cat(part) for part in parts),
        planted={},
        cache=PoisonCache(),
    )


def _shard_sizes(
    profiles: Sequence[ClientProfile], images: int, *, fished: int, shard: int = SHARD
) -> list[int]:
    """Number of images in the shard of each client, of this many, without the fished ones."""
    return [
        # No image twice in a batch as long as there are enough.
        max(each.images, min(images, shard * each.images))
        if isinstance(each.task.role, Leaking) and not fished
        else each.images - fished
        for each in profiles
    ]


def _split(order: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Parts of these sizes, from the start again wherever the indices end."""
    total = sum(sizes)
    return torch.split(order.repeat(-(-total // max(1, len(order))))[:total], list(sizes))
