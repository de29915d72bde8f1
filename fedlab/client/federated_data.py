"""The images of all clients in one process, and the network that they take turns to train."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod

import torch
from torch import Tensor, nn

from attacks.malicious_server.imprint import imprint
from attacks.privacy_audit.canaries import Canaries
from fedlab.client.canaries import planted
from fedlab.client.recorded_steps import RecordedSteps, Recorder, as_cuda_graph
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput
from fedlab.core.memory import check_memory
from fedlab.core.seeds import derive, generator
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.data.partitions import partition
from fedlab.data.shard import Shard
from fedlab.models import build
from fedlab.poisoning.cache import PoisonCache
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing, Data, Imprint

MAX_REFERENCE_IMAGES = 2_000
"""Largest number of public images from which a malicious server computes the bins of its imprint
block, or its trap weights."""


def _single_network(seed: int) -> nn.Module:
    raise ValueError("this FederatedData has a single network: make it with FederatedData.of")


@dataclass(frozen=True)
class FederatedData:
    """The images of all clients in one process, and one network that they take turns to train.

    Attributes:
        seed: Root seed of the scenario.
        data: All images, on the device.
        partitions: Indices of each client's training images, int64, by partition id; none at the
            server of a deployment, whose clients have images of their own.
        model: The shared network; each client loads the global weights before it trains.
        planted: Canaries that the audited client holds besides its images, by partition id.
        fresh: Makes the same network with initial weights of another seed, on the device.
        root: Indices of the training images that the server keeps for itself.
        cache: Poisons that clients reuse in later rounds.
        network: Words for the network in error messages, such as ``model "lenet"``.
        recorder: Records steps of local SGD, to replay them; ``None`` to compute each.
    """

    seed: int
    data: ImageData
    partitions: tuple[Tensor, ...]
    model: nn.Module
    planted: Mapping[int, Canaries] = field(default_factory=dict)
    fresh: Callable[[int], nn.Module] = field(default=_single_network)
    root: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    cache: PoisonCache = field(default_factory=PoisonCache)
    network: str = "the network"
    recorder: Recorder | None = None

    @classmethod
    def of(cls, scenario: Scenario, images: ImageData | None = None) -> "FederatedData":
        """Load the images and build the network of a scenario.

        Args:
            scenario: The scenario.
            images: The images that it keeps, if they are loaded already.

        Raises:
            BadInput: If one of them cannot be made, or they do not fit each other.
        """
        device = device_of(scenario.engine.device)
        on_gpu = device.type == "cuda"
        data = images_of(scenario) if images is None else images
        fishing = scenario.server.malicious
        if isinstance(fishing, ClassFishing) and fishing.target >= data.num_classes:
            raise BadInput(
                f"server.malicious.target is {fishing.target}, but the classes of {data.name} go "
                f"from 0 to {data.num_classes - 1}"
            )
        root, spread = split_root_images(scenario, len(data.train_labels))
        partitions = (
            []
            if scenario.engine.deployed
            else partition(
                data.train_labels[spread],
                clients=scenario.data.clients,
                scheme=scenario.data.partition,
                alpha=scenario.data.alpha,
                classes_per_client=scenario.data.classes_per_client,
                groups=None if data.train_groups is None else data.train_groups[spread],
                options=scenario.data.partition_options,
                generator=generator(scenario.seed, "partition"),
            )
        )
        return cls(
            scenario.seed,
            data.to(device),
            tuple(spread[members] for members in partitions),
            network_of(scenario, data).to(device),
            planted(scenario, data),
            lambda seed: network_of(scenario, data, seed=seed).to(device),
            root,
            network=f'model "{scenario.model.factory or scenario.model.name}"',
            recorder=as_cuda_graph if on_gpu and scenario.engine.cuda_graph else None,
        )

    @property
    def device(self) -> torch.device:
        """Device of the images and the network."""
        return self.data.train_images.device

    @property
    def sizes(self) -> dict[int, int]:
        """Number of images of every client, canaries included, by partition id."""
        own = {client: len(members) for client, members in enumerate(self.partitions)}
        return own | {
            client: own[client] + len(more.labels) for client, more in self.planted.items()
        }

    @cached_property
    def recorded_steps(self) -> RecordedSteps | None:
        """Recorded steps of the network; ``None`` if steps are not recorded."""
        return None if self.recorder is None else RecordedSteps(self.model, self.recorder)

    @cached_property
    def _names(self) -> frozenset[str]:
        """Names of all parameters and persistent buffers; a shared tensor is named once."""
        each = (*self.model.named_parameters(), *self.model.named_buffers())
        return frozenset(name for name, _ in each) & self.model.state_dict().keys()

    @property
    def state(self) -> dict[str, Tensor]:
        """Copies of the network's parameters and buffers by name, on the CPU.

        A tensor that several layers share is included once, under its first name.
        """
        return {
            name: value.detach().cpu().clone()
            for name, value in self.model.state_dict().items()
            if name in self._names
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load global parameters and buffers into the network.

        Raises:
            ValueError: If a name is missing, or the network has no such name.
        """
        if missing := sorted(self._names - set(state)):
            raise ValueError(f"the global state lacks {missing[0]}")
        # Not strict, since the other names of shared tensors are missing.
        if unknown := self.model.load_state_dict(state, strict=False).unexpected_keys:
            raise ValueError(f"the network has no parameter {unknown[0]}")

    def shard(self, client: int) -> Shard:
        """Return the images of one client, canaries included, before any poisoning."""
        members = self.partitions[client].to(self.device)
        images, labels = self.data.train_images[members], self.data.train_labels[members]
        if client in self.planted:
            own = self.planted[client]
            images = torch.cat([images, own.images.to(self.device)])
            labels = torch.cat([labels, own.labels.to(self.device)])
        return Shard(images, labels, self.data.num_classes)

    @property
    def test(self) -> Shard:
        """The test images, which are public."""
        return Shard(self.data.test_images, self.data.test_labels, self.data.num_classes)

    def network_input(self, images: Tensor) -> Tensor:
        """Convert uint8 images to the normalised input of the network."""
        return self.data.normalise(self.data.pixels(images))

    def stream(self, *key: int) -> Callable[[str], torch.Generator]:
        """Return a function that makes the random generator of a named purpose, for one key.

        Args:
            *key: Round and client, or the client alone for draws that are the same in every round.
        """
        return partial(_stream, self.seed, key)


def images_of(scenario: Scenario) -> ImageData:
    """Load the images of a scenario, on the CPU, limited to as many as it keeps."""
    return limited(whole_images(scenario.data), scenario)


def limited(images: ImageData, scenario: Scenario) -> ImageData:
    """Limit the images of a data set to as many as a scenario keeps."""
    return images.limited(scenario.data.train, scenario.data.test, scenario.seed)


def whole_images(settings: Data) -> ImageData:
    """Load all images of a data set, on the CPU."""
    return load(
        settings.source,
        root=settings.root,
        download=settings.download,
        factory=settings.factory,
        image_size=settings.image_size,
        label_by=settings.label_by,
        group_by=settings.group_by,
    )


def split_root_images(scenario: Scenario, images: int) -> tuple[Tensor, Tensor]:
    """Split the training images between the server and the clients.

    Args:
        scenario: The scenario, which states the number of images that the server keeps.
        images: Number of training images.

    Returns:
        Sorted indices of the server's images, and of the clients' images.

    Raises:
        BadInput: If no image would be left for the clients.
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
    """Build the network of a scenario with its initial weights, on the CPU.

    If the scenario has a malicious server with an imprint block, the block comes first.

    Args:
        scenario: Scenario that names the network and the seed of its weights.
        data: Images that determine the shape of the input and the number of classes.
        seed: Seed of other initial weights.

    Raises:
        BadInput: If the network cannot be built, or has no place for an imprint block.
    """
    network = build(
        scenario.model.name,
        shape=data.shape,
        classes=data.num_classes,
        width=scenario.model.width,
        norm=scenario.model.norm,
        bias_start=scenario.model.bias_start,
        bottleneck=scenario.model.bottleneck,
        seed=derive(scenario.seed, "model") if seed is None else seed,
        factory=scenario.model.factory,
    )
    trap = scenario.server.malicious
    if not isinstance(trap, Imprint):
        return network
    hidden = trap.bins * prod(data.shape)
    check_memory(4 * 4 * 2 * hidden, f"an imprint block of {trap.bins} bins (server.malicious)")
    try:
        return imprint(
            network,
            shape=data.shape,
            bins=trap.bins,
            generator=generator(scenario.seed, "imprint"),
            reference=reference_images(data).cpu(),
            frequency=trap.frequency,
        )
    except ValueError as error:
        raise BadInput(f"server.malicious: {error}") from error


def reference_images(data: ImageData) -> Tensor:
    """Normalised public images of a malicious server, float ``[m, channels, height, width]``."""
    every = -(-len(data.test_images) // MAX_REFERENCE_IMAGES)
    return data.normalise(data.pixels(data.test_images[::every]))


def _stream(seed: int, key: tuple[int, ...], purpose: str) -> torch.Generator:
    return generator(seed, purpose, *key)
