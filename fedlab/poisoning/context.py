"""The inputs of data poisons and update attacks, and the goal of a data poison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from attacks.knowledge import LocalSGD
    from fedlab.data.shard import Shard
    from fedlab.poisoning.cache import PoisonCache

    Stream = Callable[[str], torch.Generator]
    """Returns a new random generator for a named purpose; the same name gives the same draws."""


@dataclass(frozen=True)
class PoisoningContext:
    """Everything besides its clean images that a client can use to make a data poison.

    Attributes:
        client: Partition id of the client.
        round: Round number, counted from 1.
        model: The network at the global weights of the round.
        sent: Global parameters and buffers by name, as the client received them.
        fresh: Makes the same network with other initial weights, drawn by the given number.
        test: Public test images that the poison may target; clients never train on them.
        network_input: Normalises pixels in [0, 1] for the network.
        training: Local SGD settings of the round.
        own: Random generators of this client, the same in every round.
        common: Random generators that all clients share, for example to agree on a target image.
        cache: Stores poisons that are made once and reused in later rounds.
    """

    client: int
    round: int
    model: nn.Module
    sent: Mapping[str, Tensor] = field(repr=False)
    fresh: Callable[[int], nn.Module]
    test: Shard
    network_input: Callable[[Tensor], Tensor]
    training: LocalSGD
    own: Stream
    common: Stream
    cache: PoisonCache


@dataclass(frozen=True)
class Goal:
    """The predictions that a data poison is meant to cause.

    The attack success rate is the share of ``images`` that the global model predicts as
    ``wanted``. The chance rate is measured on clean test images with ``chance``.

    Attributes:
        images: Test images as the attacker shows them, uint8 ``[n, channels, height, width]``.
        wanted: Label that the attacker wants for each image, int64 ``[n]``.
        chance: Pairs of a true class and a predicted class. The share of clean test images of the
            first that the model predicts as the second is the success rate without any poison. For
            a trigger these are the other classes and the target; for one target image every class
            but the wanted one; for flipped labels the classes that are not flipped to that label.
            Empty if there is no such class.
    """

    images: Tensor = field(repr=False)
    wanted: Tensor = field(repr=False)
    chance: frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Collusion:
    """The knowledge that colluding clients share in one round.

    Attributes:
        clients: Number of clients in the cohort.
        malicious: Number of them that collude.
        honest: Honest changes of the global parameters that they know, float ``[m, d]``.
    """

    clients: int
    malicious: int
    honest: Tensor = field(repr=False)


@dataclass(frozen=True)
class UpdateContext:
    """Everything besides its own update that a client can use in an update attack.

    Attributes:
        client: Partition id of the client.
        round: Round number, counted from 1.
        parameters: Global parameters by name, as the client received them. A flat change has their
            entries in alphabetical order of the names; ``attacks.model_poisoning.vectors`` converts
            between the two.
        generator: CPU generator, new in every round.
        collusion: Knowledge shared with other clients; ``None`` for an attack on its own.
        observed: Change of the global parameters since the last round in which the client received
            them, float ``[d]``; ``None`` if this is the first one, or the attack does not have
            ``observes_global``.
    """

    client: int
    round: int
    parameters: Mapping[str, Tensor] = field(repr=False)
    generator: torch.Generator = field(repr=False)
    collusion: Collusion | None = None
    observed: Tensor | None = field(default=None, repr=False)


def check_classes(test: Shard, *classes: int) -> None:
    """Refuse class numbers that the data set does not have.

    Raises:
        ValueError: If a class number is too large.
    """
    if classes and max(classes) >= test.num_classes:
        raise ValueError(
            f"there is no class {max(classes)}, only classes 0 to {test.num_classes - 1}"
        )


def chance_pairs(target: int, test: Shard) -> frozenset[tuple[int, int]]:
    """Pairs of every other class with the target, for ``Goal.chance``."""
    return frozenset((label, target) for label in range(test.num_classes) if label != target)
