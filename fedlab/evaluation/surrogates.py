"""Surrogate clients: the attacker runs the client's own training and defenses on public images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.seeds import derive, generator
from fedlab.defenses import AnyDefense
from fedlab.evaluation.replay import Truth, replay
from fedlab.poisoning.cache import PoisonCache
from fedlab.protocol.round_facts import round_facts
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Honest, Leaking
from fedlab.server.captures import Capture

SHARD = 4
"""Number of batches in the shard of a surrogate client that sends the gradient of one batch."""


@dataclass(frozen=True)
class SurrogateClient:
    """A simulated client and everything about it.

    Attributes:
        capture: What the server would have received.
        task: The task of the client.
        truth: The images behind the capture.
    """

    capture: Capture
    task: ClientTask
    truth: Truth


def surrogate_clients(
    federated: FederatedData,
    task: ClientTask,
    defenses: tuple[AnyDefense, ...],
    global_state: Mapping[str, Tensor],
    *,
    images: int,
    clients: range,
) -> Iterator[SurrogateClient]:
    """Simulate clients like a captured one, one after another.

    They hold test images, which stand for public ones, and start from the weights that the real
    client received. Clients that send nothing are left out.

    Args:
        federated: Data set, and the network of the federation.
        task: Task of the captured client.
        defenses: Defenses that the surrogate clients run.
        global_state: Global parameters and buffers by name.
        images: Number of images behind the captured payload.
        clients: Numbers of the clients to simulate; two with different numbers hold different
            images as far as there are enough.
    """
    role = task.role if isinstance(task.role, Leaking) else Honest()
    size = SHARD * images if isinstance(role, Leaking) else images
    public = _public(federated, size=size, count=clients.stop)
    for client in clients:
        own = task.model_copy(
            update={
                "client": client,
                "role": role,
                "defenses": defenses,
                "history": None,
                "collusion": None,
                "exposed": False,
            }
        )
        done = run_client_round(own, public, global_state, ())
        if done.payload is None:
            continue
        facts = round_facts(own, defenses)
        capture = Capture(own.round, (client,), global_state, done.payload, facts)
        truth = replay(public, capture, {client: own}, {})
        if len(truth.inputs):
            yield SurrogateClient(capture, own, truth)


def _public(federated: FederatedData, *, size: int, count: int) -> FederatedData:
    """The test images, dealt to surrogate clients; an image may go to several of them."""
    data = federated.data
    seed = derive(federated.seed, "surrogates")
    order = torch.randperm(len(data.test_images), generator=generator(seed, "deal"))
    order = order.repeat(-(-size * count // len(order)))[: size * count]
    return replace(
        federated,
        seed=seed,
        data=replace(data, train_images=data.test_images, train_labels=data.test_labels),
        partitions=tuple(order.view(count, size)),
        planted={},
        cache=PoisonCache(),
    )
