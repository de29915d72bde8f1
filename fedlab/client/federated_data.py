"""What a client has at its place: its images, a network to train, and its random streams."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from attacks.malicious_server.imprint import imprint
from attacks.privacy_audit.canaries import Canaries
from fedlab.client.canaries import planted
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput
from fedlab.core.seeds import derive, generator
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.data.partitions import partition
from fedlab.data.shard import Shard
from fedlab.models import build
from fedlab.poisoning.cache import PoisonCache
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing, Data, Imprint

REFERENCES = 2_000
"""Public images, at most, from which a malicious server takes the bins of its imprint block."""


def _no_other(seed: int) -> nn.Module:
    raise ValueError("this federated was made with one network only")


@dataclass(frozen=True)
class FederatedData:
    """The data of all clients in one process, and one network that they take turns with.

    Attributes:
        seed: Root seed of the scenario.
        data: All images, on the device.
        partitions: Image indices of each client.
        model: Reused by every client; each loads the global weights first.
        planted: Canaries that clients hold beside their own images, by partition id.
        fresh: Makes the same network at initial weights of another seed, on the device.
        root: Image indices that the server keeps for itself and no client holds.
        cache: Where poisoning clients keep what they made.
    """

    seed: int
    data: ImageData
    partitions: tuple[Tensor, ...]
    model: nn.Module
    planted: Mapping[int, Canaries] = field(default_factory=dict)
    fresh: Callable[[int], nn.Module] = field(default=_no_other)
    root: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    cache: PoisonCache = field(default_factory=PoisonCache)

    @classmethod
    def of(cls, scenario: Scenario) -> "FederatedData":
        """Load the data and build the network that a scenario names.

        Raises:
            BadInput: If either cannot be had, or they do not fit each other.
        """
        device = device_of(scenario.engine.device)
        data = images_of(scenario)
        fishing = scenario.server.malicious
        if isinstance(fishing, ClassFishing) and fishing.target >= data.num_classes:
            raise BadInput(
                f"server.malicious.target is {fishing.target}, but the classes of {data.name} go "
                f"from 0 to {data.num_classes - 1}"
            )
        root, spread = kept_back(scenario, len(data.train_labels))
        partitions = partition(
            data.train_labels[spread],
            clients=scenario.data.clients,
            scheme=scenario.data.partition,
            alpha=scenario.data.alpha,
            classes_per_client=scenario.data.classes_per_client,
            generator=generator(scenario.seed, "partition"),
        )
        return cls(
            scenario.seed,
            data.to(device),
            tuple(spread[members] for members in partitions),
            network_of(scenario, data).to(device),
            planted(scenario, data),
            lambda seed: network_of(scenario, data, seed=seed).to(device),
            root,
        )

    @property
    def device(self) -> torch.device:
        """Where images and network live."""
        return self.data.train_images.device

    @property
    def sizes(self) -> dict[int, int]:
        """Images of every client, canaries included."""
        own = {client: len(members) for client, members in enumerate(self.partitions)}
        return own | {
            client: own[client] + len(more.labels) for client, more in self.planted.items()
        }

    @cached_property
    def _names(self) -> frozenset[str]:
        """Of all parameters and kept buffers, each tensor once."""
        each = (*self.model.named_parameters(), *self.model.named_buffers())
        return frozenset(name for name, _ in each) & self.model.state_dict().keys()

    @property
    def state(self) -> dict[str, Tensor]:
        """Copies of the network's parameters and buffers, on the CPU.

        A tensor that several layers share is in it once, under its first name.
        """
        return {
            name: value.detach().cpu().clone()
            for name, value in self.model.state_dict().items()
            if name in self._names
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put global parameters and buffers into the network.

        Raises:
            ValueError: If they are not those of ``state``.
        """
        if missing := sorted(self._names - set(state)):
            raise ValueError(f"the global state lacks {missing[0]}")
        # Not strict, since the other names of shared tensors are missing.
        if unknown := self.model.load_state_dict(state, strict=False).unexpected_keys:
            raise ValueError(f"the network has no parameter {unknown[0]}")

    def shard(self, client: int) -> Shard:
        """The images of one client, canaries included, before any poisoning."""
        members = self.partitions[client].to(self.device)
        images, labels = self.data.train_images[members], self.data.train_labels[members]
        if client in self.planted:
            own = self.planted[client]
            images = torch.cat([images, own.images.to(self.device)])
            labels = torch.cat([labels, own.labels.to(self.device)])
        return Shard(images, labels, self.data.num_classes)

    @property
    def test(self) -> Shard:
        """The test images, which everyone may look at."""
        return Shard(self.data.test_images, self.data.test_labels, self.data.num_classes)

    def network_input(self, images: Tensor) -> Tensor:
        """uint8 images as the network takes them."""
        return self.data.normalise(self.data.pixels(images))

    def stream(self, *key: int) -> Callable[[str], torch.Generator]:
        """Generators of named purposes for one round and client."""
        return partial(_stream, self.seed, key)


def images_of(scenario: Scenario) -> ImageData:
    """The images that a scenario names, on the CPU."""
    settings = scenario.data
    return whole_images(settings).limited(settings.train, settings.test, scenario.seed)


def whole_images(settings: Data) -> ImageData:
    """All images of the source that a scenario names, on the CPU."""
    return load(
        settings.source,
        root=settings.root,
        download=settings.download,
        factory=settings.factory,
        image_size=settings.image_size,
    )


def kept_back(scenario: Scenario, images: int) -> tuple[Tensor, Tensor]:
    """Indices of the training images that the server keeps, and of those for the clients.

    Raises:
        BadInput: If none would be left for the clients.
    """
    count = scenario.server.root_images if scenario.server.needs_root else 0
    if count >= images:
        raise BadInput(
            f"server.root_images is {count}, which leaves none of {images} training images for the "
            "clients"
        )
    order = torch.randperm(images, generator=generator(scenario.seed, "root images"))
    return order[:count].sort().values, order[count:].sort().values


def network_of(scenario: Scenario, data: ImageData, *, seed: int | None = None) -> nn.Module:
    """The network that a scenario names, at its initial weights, on the CPU.

    A malicious server may have put an imprint block in front of it, which all clients then get.

    Args:
        scenario: Names it, and the seed of its weights.
        data: Says what its inputs and outputs are.
        seed: Draws other initial weights.

    Raises:
        BadInput: If it cannot be built, or takes no such block.
    """
    network = build(
        scenario.model.name,
        shape=data.shape,
        classes=data.num_classes,
        width=scenario.model.width,
        norm=scenario.model.norm,
        seed=derive(scenario.seed, "model") if seed is None else seed,
        factory=scenario.model.factory,
    )
    trap = scenario.server.malicious
    if not isinstance(trap, Imprint):
        return network
    every = -(-len(data.test_images) // REFERENCES)
    public = data.test_images[::every].cpu()
    try:
        return imprint(
            network,
            shape=data.shape,
            bins=trap.bins,
            generator=generator(scenario.seed, "imprint"),
            reference=data.normalise(data.pixels(public)),
            frequency=trap.frequency,
        )
    except ValueError as error:
        raise BadInput(f"server.malicious: {error}") from error


def _stream(seed: int, key: tuple[int, ...], purpose: str) -> torch.Generator:
    return generator(seed, purpose, *key)
