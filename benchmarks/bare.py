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


def rounds(scenario: Scenario) -> Iterator[Done]:
    """Plain FedAvg of honest clients.

    Args:
        scenario: Data, partition, network, local SGD, cohort, device and number of rounds. Roles,
            defenses, strategy and everything else are ignored.

    Yields:
        One result per round; the last state is the Federation's bit for bit.
    """
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
    ).to(device)
    data = data.to(device)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for number in range(1, scenario.rounds + 1):
        started = time.perf_counter()
        average: State = {}
        cohort = sample_cohort(scenario, number)
        total = sum(len(shards[client]) for client in cohort)
        for client in cohort:
            shard = shards[client]
            model.load_state_dict(state)
            order = generator(scenario.seed, "batches", number, client)
            _train(model, data, shard, scenario, number, order)
            _add(average, model, share=len(shard) / total)
        state = average
        model.load_state_dict(state)
        accuracy, loss = _scores(model, data)
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


def _add(average: State, model: nn.Module, *, share: float) -> None:
    """Add one client's weights, in the order and precision of Flower's FedAvg."""
    for name, value in model.state_dict().items():
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
