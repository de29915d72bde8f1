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
from fedlab.evaluation.replay import Truth, received, replay
from fedlab.poisoning.cache import PoisonCache
from fedlab.protocol.round_facts import round_facts, summed_facts
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Honest, Leaking
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
    """

    number: int
    capture: Capture
    tasks: Mapping[int, ClientTask]
    truth: Truth


def surrogate_captures(
    federated: FederatedData,
    profiles: Sequence[ClientProfile],
    original: Capture,
    *,
    numbers: range,
    fished: int = 0,
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
    """
    labels, target = federated.data.test_labels.cpu(), original.facts.target
    wanted = torch.zeros_like(labels, dtype=torch.bool) if target is None else labels == target
    if fished and not wanted.any():
        return
    public = _dealt(federated, profiles, numbers.stop, wanted=wanted, fished=fished)
    state = original.global_state
    for number in numbers:
        tasks = {task.client: task for task in _tasks(profiles, number)}
        done = [run_client_round(task, public, state, ()) for task in tasks.values()]
        if any(each.payload is None for each in done):
            continue
        capture = _captured(original, tasks, done)
        truth = replay(public, capture, tasks, {})
        if len(truth.inputs):
            yield SurrogateCapture(number, capture, tasks, truth)


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
    payload: Payload = received(done, [*tasks.values()], original.global_state)
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
) -> FederatedData:
    """The test images, dealt to surrogate clients; an image may go to several of them.

    Args:
        federated: Data set, and the network of the federation.
        profiles: The clients of a simulation.
        count: Number of simulations.
        wanted: bool ``[test images]``, those of the class that a malicious server fished for.
        fished: Number of such images in the shard of each client, which is then its batch.
    """
    data, seed = federated.data, derive(federated.seed, "surrogates")
    order = torch.randperm(len(wanted), generator=generator(seed, "deal"))
    others = order[~wanted[order]]
    sizes = [
        # No image twice in a batch as long as there are enough.
        max(each.images, min(len(others), SHARD * each.images))
        if isinstance(each.task.role, Leaking) and not fished
        else each.images - fished
        for each in profiles
    ] * count
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


def _split(order: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Parts of these sizes, from the start again wherever the indices end."""
    total = sum(sizes)
    return torch.split(order.repeat(-(-total // max(1, len(order))))[:total], list(sizes))
