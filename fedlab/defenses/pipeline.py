"""A client's pipeline from its images to the update that it sends; defenses replace parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from fedlab.core.lazy import torch
from fedlab.privacy.release import History, PrivacyRelease

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from attacks.knowledge import Knowledge
    from attacks.payload import Payload
    from fedlab.data.shard import Shard


@dataclass(frozen=True)
class Batch:
    """The training examples of one local step, before they are normalised.

    Attributes:
        members: int64 ``[b]``, the shard index of the image that each example was made from. For a
            fixed set of mixtures it is the index of the mixture in that set.
        sources: int64 ``[b, k]``, the shard indices of all k images in each example.
        pixels: float32 ``[b, channels, height, width]``, pixels in [0, 1].
        labels: int64 ``[b]``, the class of each example, or float32 ``[b, classes]``, the weight of
            each class, once labels are mixed.
    """

    members: Tensor
    sources: Tensor
    pixels: Tensor
    labels: Tensor


class Sampler(Protocol):
    """A callable that chooses the examples of every local step."""

    def __call__(self) -> Iterator[Tensor]:
        """Yield one int64 index tensor per step; it may be empty under Poisson sampling."""


class Gradient(Protocol):
    """A callable that computes the gradient of a batch."""

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Overwrite ``.grad`` of every parameter of the network.

        Args:
            images: Normalised images, float32 ``[b, channels, height, width]``.
            labels: int64 ``[b]`` or float32 ``[b, classes]``.
        """


class Withheld(Exception):
    """Raised when the client withholds its update; the server sees the message as the reason."""


Transform = Callable[[Batch], Batch]
"""A function that changes a batch before the network sees it."""

Update: TypeAlias = "Mapping[str, Tensor]"
"""A client's update by parameter name: a gradient, or its new weights minus the global weights."""

Release: TypeAlias = "Callable[[Update], Update]"
"""A function that changes an update before it is sent."""

Inspection: TypeAlias = "Callable[[Payload], None]"
"""A function that examines a payload before it is sent, and raises ``Withheld`` to stop it."""

Charge = Callable[[], PrivacyRelease]
"""A function that returns the privacy cost of a round, called after the round."""

Streams: TypeAlias = "Callable[[str], Generator]"
"""A function that returns the CPU random generator for a named purpose."""


@dataclass(frozen=True)
class Pipeline:
    """The steps from a client's images to its update under the defenses of one round.

    It is immutable: a defense returns a changed copy, by the methods below or by
    ``dataclasses.replace``.

    Attributes:
        sampler: Sampler that yields the indices of every batch.
        transform: Function that changes a batch before the network sees it.
        gradient: Function that computes the gradient of a batch.
        batch_size: Number of examples in a batch, or the expected number under Poisson sampling.
        batches: Number of local steps.
        records: Number of examples in all batches together.
        held: Function that returns the examples at the sampler's indices; ``None`` for the images
            of the shard.
        observers: Functions that receive every batch that the network is trained on.
        releases: Functions that change the update, in this order.
        inspections: Functions that examine the payload after all releases, when the network has
            been restored.
        planned: Privacy cost of the round as known before it, one entry per charging defense.
        charges: Functions that return the privacy cost after the round, in the order of
            ``planned``.
        close: Functions that restore the network, called at the end of the round.
    """

    sampler: Sampler
    transform: Transform
    gradient: Gradient
    batch_size: int
    batches: int
    records: int
    held: Callable[[Tensor], Batch] | None = None
    observers: tuple[Callable[[Batch], None], ...] = ()
    releases: tuple[Release, ...] = ()
    inspections: tuple[Inspection, ...] = ()
    planned: tuple[PrivacyRelease, ...] = ()
    charges: tuple[Charge, ...] = ()
    close: Sequence[Callable[[], None]] = field(default_factory=tuple)

    @property
    def leaves_images(self) -> bool:
        """Whether the network is trained on the images of the shard, and nobody watches batches."""
        return self.held is None and self.transform is unchanged and not self.observers

    @property
    def leaves_gradient(self) -> bool:
        """Whether the gradient is that of the batch, and the network is as the server sent it."""
        return type(self.gradient) is PlainGradient and not self.close

    @property
    def leaves_training(self) -> bool:
        """Whether the network is trained on images of the shard by their gradient, unobserved."""
        return self.leaves_images and self.leaves_gradient

    def charged(self, planned: PrivacyRelease, charge: Charge | None = None) -> Pipeline:
        """Return a pipeline with one more privacy cost.

        Args:
            planned: Cost of the round as known before it.
            charge: Function that returns the cost after the round; ``None`` to charge ``planned``.
        """
        return replace(
            self,
            planned=(*self.planned, planned),
            charges=(*self.charges, charge or (lambda: planned)),
        )

    def transforming(self, change: Transform) -> Pipeline:
        """Return a pipeline that also changes every batch, after the earlier changes.

        Args:
            change: Function from a batch to the changed batch.
        """
        before = self.transform
        return replace(self, transform=lambda batch: change(before(batch)))

    def releasing(self, release: Release) -> Pipeline:
        """Return a pipeline that also changes the update, after the earlier changes.

        Args:
            release: Function from an update to the changed update.
        """
        return replace(self, releases=(*self.releases, release))

    def releasing_each(self, change: Callable[[Tensor], Tensor]) -> Pipeline:
        """Return a pipeline that also changes every tensor of the update by itself.

        Args:
            change: Function from one tensor of the update to the changed tensor.
        """
        return self.releasing(lambda update: {name: change(t) for name, t in update.items()})

    def inspected(self, inspection: Inspection, *, observer: Callable[[Batch], None]) -> Pipeline:
        """Return a pipeline with one more inspection of the payload before it is sent.

        Args:
            inspection: Function that receives the payload after all releases.
            observer: Function that receives every batch that the network is trained on.
        """
        return replace(
            self,
            observers=(*self.observers, observer),
            inspections=(*self.inspections, inspection),
        )


@dataclass(frozen=True)
class ClientContext:
    """The client's data and settings of one round, as a defense needs them.

    Attributes:
        model: The network with the global weights.
        shard: The client's images and labels.
        round: Round number, counted from 1.
        participation: Number of earlier participations of the client, repeated rounds included.
        history: Privacy history of the client before the round.
        sent: Global parameters and buffers by name, as the server sent them.
        network_input: Function that normalises pixels in [0, 1] for the network.
        stream: Function that returns the CPU generator for a purpose; it is seeded by the purpose,
            the round and the client.
        lasting: Function that returns the CPU generator for a purpose; it is seeded by the purpose
            and the client, so it draws the same numbers in every round.
        noise: Generator of the DP noise, on the network's device; it never repeats.
        known: Public knowledge of anyone who sees the update; it contains no labels.
        published: Hashes (``fedlab.core.digest.digest``) of what the server sent to clients that
            publish them, this one included.
        public: Images that everybody has, such as the test images; ``None`` for none.
        epochs: Number of passes over the shard; 1 for a leaking client.
        poisson: True if DP-SGD draws Poisson batches; otherwise batches have a fixed size and their
            sample rate counts as 1.
        leaking: True if the client sends the raw gradient of one batch instead of weights.
        noiseless: True in a replay that computes the update without DP noise; never at a client.
        replay: True when the referee recomputes a client's round: a defense that decides whether
            to send anything does not decide again.
    """

    model: nn.Module
    shard: Shard
    round: int
    participation: int
    history: History
    sent: Mapping[str, Tensor]
    network_input: Callable[[Tensor], Tensor]
    stream: Streams
    lasting: Streams
    noise: Generator
    known: Knowledge
    epochs: int
    poisson: bool
    public: Shard | None = None
    published: tuple[str, ...] = ()
    leaking: bool = False
    noiseless: bool = False
    replay: bool = False


def unchanged(batch: Batch) -> Batch:
    """Return a batch unchanged; the transform of a pipeline without defenses."""
    return batch


class PlainGradient:
    """The gradient of the mean cross-entropy, without any defense.

    Args:
        model: Network whose parameters receive the gradient.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters = list(model.parameters())

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Overwrite ``.grad`` of every parameter with the gradient of a batch."""
        for parameter in self._parameters:
            parameter.grad = None
        torch.nn.functional.cross_entropy(self._model(images), labels).backward()  # type: ignore[no-untyped-call]


def shuffled(n: int, *, batch_size: int, epochs: int, generator: Generator) -> Sampler:
    """Create a sampler that shuffles n examples anew in every epoch.

    The last batch of an epoch may be smaller.
    """

    def batches() -> Iterator[Tensor]:
        for _ in range(epochs):
            yield from torch.split(torch.randperm(n, generator=generator), batch_size)

    return batches


def single(n: int, *, batch_size: int, generator: Generator) -> Sampler:
    """Create a sampler that yields one random batch of distinct examples."""

    def batches() -> Iterator[Tensor]:
        yield torch.randperm(n, generator=generator)[:batch_size]

    return batches


def poisson(n: int, *, rate: float, steps: int, generator: Generator) -> Sampler:
    """Create a sampler of Poisson batches: each example joins with probability ``rate``."""

    def batches() -> Iterator[Tensor]:
        for _ in range(steps):
            yield (torch.rand(n, generator=generator) < rate).nonzero().squeeze(1)

    return batches
