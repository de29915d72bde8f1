"""The networks that a poisoning client brews against: the global one, or its own."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.poisoning.surrogate import Surrogate
from fedlab.data.shard import Shard
from fedlab.poisoning.context import PoisoningContext
from fedlab.poisoning.settings import Brewed


def surrogates(
    context: PoisoningContext, shard: Shard, settings: Brewed, *, count: int = 1
) -> list[Surrogate]:
    """The networks to brew against, in evaluation mode.

    Args:
        context: The client's.
        shard: Its clean images, which its own networks are trained on.
        settings: Whether these are its own, and for how many epochs.
        count: Of its own networks; of global ones there is one.
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
    """A network as it is now, which training it on does not change."""
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
    """Train a network as the clients of the federation do, but for a learning rate that falls to 0.

    Args:
        network: Changed in place.
        images: uint8 ``[n, channels, height, width]``.
        labels: int64 ``[n]``.
        context: Names learning rate, momentum, weight decay and batch size.
        epochs: Passes over the images.
        number: Tells the order of images of several networks apart.
    """
    how = context.training
    optimizer = torch.optim.SGD(
        network.parameters(), lr=how.lr, momentum=how.momentum, weight_decay=how.weight_decay
    )
    # Small networks that train for a few epochs have no use for the papers' early drops.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / epochs)
    drawn = context.own(f"surrogate {number}")
    network.train()
    for _ in range(epochs):
        for places in torch.split(torch.randperm(len(labels), generator=drawn), how.batch_size):
            places = places.to(labels.device)
            batch = context.network_input(images[places].float().div(255))
            optimizer.zero_grad()
            functional.cross_entropy(network(batch), labels[places]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
