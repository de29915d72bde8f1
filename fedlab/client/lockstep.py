"""Clients of a round that train in lockstep, as one network whose weights are stacked.

A small network leaves a processor idle. ``torch.func.vmap`` computes a step of several clients by
kernels that are as many times larger.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from attacks.payload import Payload
from fedlab.client.federated_data import FederatedData
from fedlab.client.local_training import AT_ONCE, honest_batches
from fedlab.client.sgd import LocalStep
from fedlab.core.foreign_code import ForeignCodeFailed, call_foreign
from fedlab.protocol.task import ClientTask
from fedlab.protocol.workload import workload
from fedlab.scenario.roles import Honest

State = Mapping[str, Tensor]
"""Global parameters and buffers by name, on the device."""

log = logging.getLogger(__name__)


class Lockstep:
    """Trains the clients of a round together whose local training has the same shape.

    These are honest clients with equal numbers of images that were sent the same state and run
    defenses that leave the training as it is. Whoever else is in the round trains alone.

    Args:
        federated: Images of all clients, and the network that they share.
        most: Largest number of clients that train together, at least 2.
    """

    def __init__(self, federated: FederatedData, most: int) -> None:
        self._federated, self._most = federated, most
        self._payloads: dict[int, Payload] = {}
        self._possible = True

    def train(self, tasks: Iterable[tuple[ClientTask, State]], *, seconds: float | None) -> None:
        """Train clients together and keep the payloads of this round until they are taken.

        If the network cannot be stacked, the log says why, and all clients train alone from now on.

        Args:
            tasks: Task of each client of a round, with the state that it was sent.
            seconds: Time that each client may take; ``None`` for no limit.
        """
        self._payloads.clear()
        for together, state in self._groups(tasks):
            if not self._possible:
                return
            limit = seconds and seconds * len(together)
            try:
                payloads = call_foreign(
                    partial(train_stacked, together, self._federated, state), seconds=limit
                )
            except ForeignCodeFailed as error:
                self._possible = False
                reason = str(error).partition("\n")[0]
                log.warning("clients train one after another, not in lockstep: %s", reason)
            else:
                self._payloads |= zip((task.client for task in together), payloads, strict=True)

    def take(self, client: int) -> Payload | None:
        """Return what a client computed in lockstep, once; ``None`` if it trains alone."""
        return self._payloads.pop(client, None)

    def _groups(
        self, tasks: Iterable[tuple[ClientTask, State]]
    ) -> Iterator[tuple[list[ClientTask], State]]:
        """Yield the clients that train together, at least two each time, and their state."""
        sizes = self._federated.sizes
        groups: dict[object, list[ClientTask]] = defaultdict(list)
        states: dict[object, State] = {}
        for task, state in tasks:
            if isinstance(task.role, Honest) and all(d.leaves_training for d in task.defenses):
                settings = task.training.model_dump_json()
                key: object = (sizes[task.client], task.lr, task.proximal_mu, settings, id(state))
                groups[key].append(task)
                states[key] = state
        for key, alike in groups.items():
            for first in range(0, len(alike) - 1, self._most):
                yield alike[first : first + self._most], states[key]


def train_stacked(
    tasks: Sequence[ClientTask], federated: FederatedData, global_state: State
) -> list[Payload]:
    """Train several clients as one network with stacked weights.

    The weights differ from those of clients that train alone in the last digits, since kernels of
    another size add in another order.

    Args:
        tasks: Tasks of honest clients with equal numbers of images and equal local training.
        federated: Images of all clients, and their network, which gets the global weights.
        global_state: Global parameters and buffers by name.

    Returns:
        The payload of each client, before the changes of its update.

    Raises:
        ValueError: If the network changes its buffers while it trains, as BatchNorm does.
        RuntimeError: If it draws random numbers, or its code depends on values of its input.
    """
    model, task = federated.model, tasks[0]
    federated.load(global_state)
    model.train(task.training.mode == "train")
    if model.training and any(True for _ in model.buffers()):
        raise ValueError("the network has buffers, such as BatchNorm's, which training changes")
    stacked = {
        name: parameter.detach().expand(len(tasks), *parameter.shape).clone().requires_grad_()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    gradient = _StackedGradient(model, stacked)
    step = LocalStep(stacked, gradient, task, global_state, stacked=True)
    for images, labels in _stacked_batches(tasks, federated):
        step(images, labels)
    work = workload(task.role, task.training, federated.sizes[task.client])
    return [
        Payload(
            "weights",
            {
                name: (stacked[name][place] if name in stacked else parameter).detach().clone()
                for name, parameter in model.named_parameters()
            },
            num_examples=work.records // work.epochs,
            steps=work.steps,
        )
        for place in range(len(tasks))
    ]


class _StackedGradient:
    """The gradient of the mean cross-entropy of each client with respect to its own weights."""

    def __init__(self, model: nn.Module, stacked: Mapping[str, Tensor]) -> None:
        self._model, self._stacked = model, dict(stacked)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Overwrite ``.grad`` of all stacked parameters with the gradients of a batch each."""
        for parameter in self._stacked.values():
            parameter.grad = None
        losses = vmap(self._loss)(self._stacked, images, labels)
        losses.sum().backward()  # type: ignore[no-untyped-call]

    def _loss(self, parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(functional_call(self._model, parameters, (images,)), labels)


def _stacked_batches(
    tasks: Sequence[ClientTask], federated: FederatedData
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the normalised images and the labels of every step, stacked over the clients."""
    shards = [federated.shard(task.client) for task in tasks]
    images = torch.cat([shard.images for shard in shards])
    labels = torch.cat([shard.labels for shard in shards])
    starts = len(shards[0]) * torch.arange(len(tasks)).unsqueeze(1)
    inputs = federated.network_input(images) if images.numel() <= AT_ONCE else None
    samplers = [
        honest_batches(
            len(shards[0]),
            batch_size=min(task.training.batch_size, len(shards[0])),
            epochs=task.training.epochs,
            stream=federated.stream(task.round, task.client),
        )
        for task in tasks
    ]
    for each in zip(*(sampler() for sampler in samplers), strict=True):
        members = (torch.stack(each) + starts).to(federated.device)
        if inputs is None:
            flat = federated.network_input(images[members.flatten()])
            yield flat.view(*members.shape, *flat.shape[1:]), labels[members]
        else:
            yield inputs[members], labels[members]
