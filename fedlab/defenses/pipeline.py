"""How a client turns its shard into what it sends, as four parts that defenses replace or wrap."""

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
    """What the network is about to be trained on.

    Attributes:
        members: int64 ``[b]``, the shard index that each image started from, or the place in the
            set of mixtures that is trained on instead.
        sources: int64 ``[b, k]``, the shard indices of all images in each.
        pixels: float32 ``[b, channels, height, width]`` in [0, 1].
        labels: int64 ``[b]``, or float32 ``[b, classes]`` once labels are mixed.
    """

    members: Tensor
    sources: Tensor
    pixels: Tensor
    labels: Tensor


class Sampler(Protocol):
    """Chooses the shard indices of every local step."""

    def __call__(self) -> Iterator[Tensor]:
        """Yield one int64 index tensor per step; it may be empty under Poisson sampling."""


class Gradient(Protocol):
    """Turns a normalised batch into ``.grad`` of every parameter of the network."""

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Set the gradients; what they held before is overwritten."""


class Withheld(Exception):
    """The client keeps its update to itself; the message says why."""


Transform = Callable[[Batch], Batch]
"""Changes a batch before the network sees it."""

Update: TypeAlias = "Mapping[str, Tensor]"
"""What the client is about to send, by parameter name: a gradient, or new less global weights."""

Release: TypeAlias = "Callable[[Update], Update]"
"""Changes an update before it is sent."""

Inspection: TypeAlias = "Callable[[Payload], None]"
"""Looks at what is about to be sent, and raises ``Withheld`` if it must not be."""

Charge = Callable[[], PrivacyRelease]
"""What a defense costs, asked once the client's work is over."""

Streams: TypeAlias = "Callable[[str], Generator]"


@dataclass(frozen=True)
class Pipeline:
    """The way from a shard to an update under the defenses of one round.

    Attributes:
        sampler: Chooses the batches.
        transform: Changes a batch before the network sees it.
        gradient: Computes the gradient of a batch.
        batch_size: Images in a batch, or the expected number under Poisson sampling.
        batches: Number of local steps.
        records: Images in all batches together.
        held: Gives the records that the sampler's indices name; the shard's images unless given.
        observers: Are shown every batch as the network is given it.
        releases: Change the update, in this order.
        inspections: Judge what came of that, once the network is as it was found.
        planned: What this round's defenses will cost, one entry for each, as is known before.
        charges: What they did cost, in the same order.
        close: Called at the end, to leave the network as it was found.
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

    def charged(self, planned: PrivacyRelease, charge: Charge | None = None) -> Pipeline:
        """The same pipeline with one more entry of privacy spending.

        Args:
            planned: As known before the work.
            charge: Gives the entry after it; the planned one unless given.
        """
        return replace(
            self,
            planned=(*self.planned, planned),
            charges=(*self.charges, charge or (lambda: planned)),
        )

    def releasing(self, release: Release) -> Pipeline:
        """The same pipeline with one more change of the update, after those that it has."""
        return replace(self, releases=(*self.releases, release))

    def inspected(self, inspection: Inspection, *, observer: Callable[[Batch], None]) -> Pipeline:
        """The same pipeline with one more look at what is about to be sent.

        Args:
            inspection: Sees the payload after all releases.
            observer: Is shown the batches behind it.
        """
        return replace(
            self,
            observers=(*self.observers, observer),
            inspections=(*self.inspections, inspection),
        )


@dataclass(frozen=True)
class ClientContext:
    """What a defense may use when it wraps a client's pipeline.

    Attributes:
        model: The network, at the global weights.
        shard: The client's images.
        round: Counted from 1.
        participation: How often the client took part before, in whatever round; counted from 0.
        history: The client's accountant history so far.
        sent: The global parameters and buffers by name.
        network_input: Normalises pixels in [0, 1] as the network takes them.
        stream: Gives the generator of a named purpose, for this round and client.
        lasting: The same for this client in all rounds alike.
        noise: Generator of the DP noise, on the network's device.
        known: What anyone who sees the update knows beside it; labels are not in it.
        epochs: Passes over the shard, 1 for a single batch.
        leaking: Whether there is a single batch, sent as a raw gradient.
        poisson: Whether DP-SGD draws Poisson batches; otherwise it accounts at q = 1.
        noiseless: Leave all noise on gradients and updates out (the Referee's rehearsal, never a
            client).
        replay: Whether the Referee goes through what a client did: nothing is decided anew.
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
    leaking: bool = False
    noiseless: bool = False
    replay: bool = False


def unchanged(batch: Batch) -> Batch:
    """A batch as it is."""
    return batch


class PlainGradient:
    """The gradient of the mean cross-entropy, with nothing done to it."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Set ``.grad`` of every parameter."""
        self._model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(self._model(images), labels).backward()  # type: ignore[no-untyped-call]


def shuffled(n: int, *, batch_size: int, epochs: int, generator: Generator) -> Sampler:
    """Batches in a fresh order each epoch; the last one of an epoch may be smaller."""

    def batches() -> Iterator[Tensor]:
        for _ in range(epochs):
            yield from torch.split(torch.randperm(n, generator=generator), batch_size)

    return batches


def single(n: int, *, batch_size: int, generator: Generator) -> Sampler:
    """One batch of distinct images."""

    def batches() -> Iterator[Tensor]:
        yield torch.randperm(n, generator=generator)[:batch_size]

    return batches


def poisson(n: int, *, rate: float, steps: int, generator: Generator) -> Sampler:
    """Batches that each image joins independently with the same probability."""

    def batches() -> Iterator[Tensor]:
        for _ in range(steps):
            yield (torch.rand(n, generator=generator) < rate).nonzero().squeeze(1)

    return batches
