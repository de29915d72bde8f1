"""The networks that a poison is crafted against: the global one, or the client's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.poisoning.surrogate import Surrogate

if TYPE_CHECKING:
    from fedlab.data.shard import Shard
    from fedlab.poisoning.context import PoisoningContext
    from fedlab.poisoning.crafting import CraftedPoison


def surrogates(
    context: PoisoningContext, shard: Shard, settings: CraftedPoison, *, count: int = 1
) -> list[Surrogate]:
    """Return the networks to craft against, in evaluation mode.

    Args:
        context: Global network, and a way to make and train others.
        shard: The client's clean images, on which its own networks are trained.
        settings: The poison's settings: the kind of network, and the epochs of own networks.
        count: Number of own networks; of the global network there is one.
    """
    if settings.against == "global":
        return [surrogate(context.model, context)]
    made = []
    for number in range(count):
        network = context.fresh(number)
        train(network, shard.images, shard.labels, context, epochs=settings.epochs, number=number)
        made.append(surrogate(network, context))
    return made


def surrogate(network: nn.Module, context: PoisoningContext) -> Surrogate:
    """Return a copy of the network's current state, which later training does not change."""
    network.eval()
    return Surrogate(
        model=network,
        parameters={name: p.detach().clone() for name, p in network.named_parameters()},
        buffers={name: b.detach().clone() for name, b in network.named_buffers()},
        network_input=context.network_input,
    )


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    context: PoisoningContext,
    *,
    epochs: int,
    number: int,
) -> None:
    """Train a network as the clients of the federation do, with a learning rate that falls to 0.

    Args:
        network: Network to train; it is changed in place.
        images: Images, uint8 ``[n, channels, height, width]``.
        labels: Labels, int64 ``[n]``.
        context: Learning rate, momentum, weight decay, batch size and random generators.
        epochs: Number of passes over the images.
        number: Number of the network; each one draws its own order of the images.
    """
    training = context.training
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    # The early drops of the papers' schedules do not help small networks that train briefly.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / epochs)
    drawn = context.own(f"surrogate {number}")
    network.train()
    for _ in range(epochs):
        for places in torch.split(
            torch.randperm(len(labels), generator=drawn), training.batch_size
        ):
            places = places.to(labels.device)
            batch = context.network_input(images[places].float().div(255))
            optimizer.zero_grad()
            functional.cross_entropy(network(batch), labels[places]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
