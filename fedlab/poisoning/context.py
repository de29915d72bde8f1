"""What a poisoning client has at hand when it tampers with its images, and what it may want."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from fedlab.data.shard import Shard
from fedlab.poisoning.cache import PoisonCache
from fedlab.scenario.tables import Training

Stream = Callable[[str], torch.Generator]


@dataclass(frozen=True)
class PoisoningContext:
    """Everything beside its clean shard that a client can make a poison with.

    Attributes:
        client: Partition id.
        round: Counted from 1.
        model: The network of the federation, in evaluation mode while a poison is made.
        sent: The global parameters and buffers that it was sent.
        fresh: Makes the network at initial weights of the client's own, by number.
        test: Public images that it may aim at; never trained on.
        network_input: Normalises pixels in [0, 1] as the network takes them.
        training: How the clients of this federation train.
        own: Gives the generator of a named purpose, for this client in all rounds alike.
        common: The same for all clients, such as for the image that they aim at.
        cache: Where poisons are kept that are made only once.
    """

    client: int
    round: int
    model: nn.Module
    sent: Mapping[str, Tensor] = field(repr=False)
    fresh: Callable[[int], nn.Module]
    test: Shard
    network_input: Callable[[Tensor], Tensor]
    training: Training
    own: Stream
    common: Stream
    cache: PoisonCache


@dataclass(frozen=True)
class Goal:
    """What a poisoning wants of the global model.

    Attributes:
        images: uint8 ``[n, channels, height, width]``, test images as the attacker shows them.
        wanted: int64 ``[n]``, the labels that it wants for them.
        chance: Pairs of a class and a label: how often clean test images of the one are taken for
            the other shows what the network does of itself. Of a trigger these are the images
            without it; of one target image those of every class but the wanted one; of flipped
            labels those of classes that are not flipped to that one. Of the latter two it is the
            network's bias to the label, and not how much two classes are alike. Empty where there
            is no such class.
    """

    images: Tensor = field(repr=False)
    wanted: Tensor = field(repr=False)
    chance: frozenset[tuple[int, int]]


class DataPoison(Protocol):
    """Something a client does to its images and labels before it trains."""

    def poison(self, shard: Shard, context: PoisoningContext) -> Shard:
        """The shard as the client trains on it.

        Raises:
            ValueError: If these images cannot be poisoned so.
        """

    def goal(self, test: Shard, common: Stream) -> Goal | None:
        """What it wants of the global model; ``None`` if no label in particular.

        Args:
            test: The test images.
            common: As in a context.

        Raises:
            ValueError: If there is no such class, or what it shows does not fit the images.
        """


def check_classes(test: Shard, *classes: int) -> None:
    """Refuse classes that the images do not have.

    Raises:
        ValueError: If one is missing.
    """
    if classes and max(classes) >= test.num_classes:
        raise ValueError(
            f"names class {max(classes)}, but there are classes 0 to {test.num_classes - 1}"
        )


def mistaken_for(target: int, test: Shard) -> frozenset[tuple[int, int]]:
    """Pairs of every other class with the one that its images would be mistaken for."""
    return frozenset((label, target) for label in range(test.num_classes) if label != target)
