"""Federated averaging written by hand in plain PyTorch, as the baseline of a Federation.

It shares with fedlab what equal weights need (images, partition, cohort, network, order of the
batches) and nothing else: no messages, no checks, no ledger, no files.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.core.devices import device_of
from fedlab.core.seeds import derive, generator
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.data.partitions import partition
from fedlab.models import build
from fedlab.protocol.planning import sample_cohort
from fedlab.scenario.scenario import Scenario

State = dict[str, Tensor]


@dataclass(frozen=True)
class Done:
    """One round of the loop.

    Attributes:
        state: Global weights after the round.
        accuracy: Accuracy on the test images, from 0 to 1.
        loss: Mean cross-entropy on the test images.
        seconds: Wall time of the round.
    """

    state: State
    accuracy: float
    loss: float
    seconds: float


@dataclass(frozen=True)
class Loop:
    """What the loop needs in every round.

    Attributes:
        scenario: Data, partition, network, local SGD, cohort, device and number of rounds. Roles,
            defenses, strategy and everything else are ignored.
        data: All images.
        shards: Indices of each client's training images.
        model: The network that all clients train in turn.
    """

    scenario: Scenario
    data: ImageData
    shards: list[Tensor]
    model: nn.Module

    @classmethod
    def of(cls, scenario: Scenario) -> "Loop":
        """Load the images, and make the network with its initial weights."""
        device = device_of(scenario.engine.device)
        data = load(scenario.data.source, factory=scenario.data.factory).limited(
            scenario.data.train, scenario.data.test, scenario.seed
        )
        shards = partition(
            data.train_labels,
            clients=scenario.data.clients,
            scheme="iid",
            generator=generator(scenario.seed, "partition"),
        )
        model = build(
            scenario.model.name,
            shape=data.shape,
            classes=data.num_classes,
            width=scenario.model.width,
            seed=derive(scenario.seed, "model"),
        )
        return cls(scenario, data.to(device), shards, model.to(device))

    @property
    def state(self) -> State:
        """A copy of the weights of the network."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def trained(self, state: State, number: int, client: int) -> nn.Module:
        """The network after a client has trained it in round ``number``, from given weights."""
        self.model.load_state_dict(state)
        order = generator(self.scenario.seed, "batches", number, client)
        _train(self.model, self.data, self.shards[client], self.scenario, number, order)
        return self.model

    def share(self, client: int) -> float:
        """Share of all training images that a client has."""
        return len(self.shards[client]) / len(self.data.train_labels)

    def scores(self, state: State) -> tuple[float, float]:
        """Accuracy and loss of given weights on the test images."""
        self.model.load_state_dict(state)
        return _scores(self.model, self.data)


def rounds(scenario: Scenario) -> Iterator[Done]:
    """Plain FedAvg of honest clients.

    Args:
        scenario: The scenario; see ``Loop``.

    Yields:
        One result per round; the last state is the Federation's bit for bit.
    """
    loop = Loop.of(scenario)
    state = loop.state
    for number in range(1, scenario.rounds + 1):
        started = time.perf_counter()
        average: State = {}
        cohort = sample_cohort(scenario, number)
        total = sum(len(loop.shards[client]) for client in cohort)
        for client in cohort:
            trained = loop.trained(state, number, client)
            add(average, trained.state_dict(), share=len(loop.shards[client]) / total)
        state = average
        accuracy, loss = loop.scores(state)
        yield Done(state, accuracy, loss, time.perf_counter() - started)


def _train(
    model: nn.Module,
    data: ImageData,
    shard: Tensor,
    scenario: Scenario,
    number: int,
    order: torch.Generator,
) -> None:
    settings = scenario.training
    model.train()
    images, labels = data.train_images[shard], data.train_labels[shard]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=scenario.lr(number),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    for _ in range(settings.epochs):
        for batch in torch.split(torch.randperm(len(shard), generator=order), settings.batch_size):
            optimizer.zero_grad()
            output = model(data.normalise(data.pixels(images[batch])))
            functional.cross_entropy(output, labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def add(average: State, state: State, *, share: float) -> None:
    """Add one client's weights, in the order and precision of Flower's FedAvg."""
    for name, value in state.items():
        if name in average:
            average[name] += value * share
        else:
            average[name] = value * share


@torch.no_grad()
def _scores(model: nn.Module, data: ImageData) -> tuple[float, float]:
    model.eval()
    output = model(data.normalise(data.pixels(data.test_images)))
    right = output.argmax(1) == data.test_labels
    loss = functional.cross_entropy(output, data.test_labels)
    return right.float().mean().item(), loss.item()
