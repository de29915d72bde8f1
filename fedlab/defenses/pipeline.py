"""How a client turns its shard into gradients, as three parts that defenses replace or wrap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.privacy.spending import Spending


@dataclass(frozen=True)
class Shard:
    """The images that one client holds.

    Attributes:
        images: uint8 ``[n, channels, height, width]``.
        labels: int64 ``[n]``.
        num_classes: Classes of the whole data set.
    """

    images: Tensor
    labels: Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Batch:
    """What the network is about to be trained on.

    Attributes:
        members: int64 ``[b]``, the shard index that each image started from.
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


Transform = Callable[[Batch], Batch]
Streams = Callable[[str], torch.Generator]


@dataclass(frozen=True)
class Pipeline:
    """The way from a shard to gradients under the defenses of one round.

    Attributes:
        sampler: Chooses the batches.
        transform: Changes a batch before the network sees it.
        gradient: Computes the gradient of a batch.
        batch_size: Images in a batch, or the expected number under Poisson sampling.
        batches: Number of local steps.
        records: Images in all batches together.
        spending: What this round's defenses cost, one entry for each.
        close: Called at the end, to leave the network as it was found.
    """

    sampler: Sampler
    transform: Transform
    gradient: Gradient
    batch_size: int
    batches: int
    records: int
    spending: tuple[Spending, ...] = ()
    close: Sequence[Callable[[], None]] = field(default_factory=tuple)

    def with_spending(self, spending: Spending) -> "Pipeline":
        """The same pipeline with one more entry of privacy spending."""
        return replace(self, spending=(*self.spending, spending))


@dataclass(frozen=True)
class Circumstances:
    """What a defense may use when it wraps a client's pipeline.

    Attributes:
        model: The network, at the global weights.
        shard: The client's images.
        round: Counted from 1.
        stream: Gives the generator of a named purpose, for this round and client.
        noise: Generator of the DP noise, on the network's device.
        epochs: Passes over the shard, 1 for a single batch.
        poisson: Whether DP-SGD draws Poisson batches; otherwise it accounts at q = 1.
        noiseless: Leave the noise of DP-SGD out (the Referee's rehearsal, never a client).
    """

    model: nn.Module
    shard: Shard
    round: int
    stream: Streams
    noise: torch.Generator
    epochs: int
    poisson: bool
    noiseless: bool = False


class Defense(Protocol):
    """Something a client does to its batches, its gradients or its update."""

    def wrap(self, pipeline: Pipeline, around: Circumstances) -> Pipeline:
        """The pipeline with this defense in it, and its spending noted."""


class PlainGradient:
    """The gradient of the mean cross-entropy, with nothing done to it."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Set ``.grad`` of every parameter."""
        self._model.zero_grad(set_to_none=True)
        functional.cross_entropy(self._model(images), labels).backward()  # type: ignore[no-untyped-call]


def shuffled(n: int, *, batch_size: int, epochs: int, generator: torch.Generator) -> Sampler:
    """Batches in a fresh order each epoch; the last one of an epoch may be smaller."""

    def batches() -> Iterator[Tensor]:
        for _ in range(epochs):
            yield from torch.split(torch.randperm(n, generator=generator), batch_size)

    return batches


def single(n: int, *, batch_size: int, generator: torch.Generator) -> Sampler:
    """One batch of distinct images."""

    def batches() -> Iterator[Tensor]:
        yield torch.randperm(n, generator=generator)[:batch_size]

    return batches


def poisson(n: int, *, rate: float, steps: int, generator: torch.Generator) -> Sampler:
    """Batches that each image joins independently with the same probability."""

    def batches() -> Iterator[Tensor]:
        for _ in range(steps):
            yield (torch.rand(n, generator=generator) < rate).nonzero().squeeze(1)

    return batches
