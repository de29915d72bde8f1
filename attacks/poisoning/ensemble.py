"""Surrogates at different stages of training, which go on training while poisons are crafted.

Huang et al. 2020 (arXiv 2004.00225), algorithm 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from attacks.gradients import unroll
from attacks.knowledge import LocalSGD
from attacks.poisoning.surrogate import Surrogate

Start = Callable[[int], Surrogate]
"""Makes a freshly initialised surrogate, a different one for every number."""


class Ensemble(Protocol):
    """Surrogates that change from one craft step to the next."""

    @property
    def surrogates(self) -> Sequence[Surrogate]:
        """Surrogates of the current craft step."""

    def advance(self, pixels: Tensor) -> None:
        """Go on to the next craft step.

        Args:
            pixels: Training images with the current poisons, float ``[n, channels, height,
                width]``.
        """


@dataclass
class _Member:
    surrogate: Surrogate
    age: int
    ahead: list[Tensor]


class Staggered:
    """Surrogates that started at different times and restart at the end of their training.

    Model m of M starts after m T / M steps of plain SGD. Buffers never change, so a network with
    running statistics must already have useful ones.

    Args:
        start: Makes fresh surrogates by number.
        pixels: Images, float ``[n, channels, height, width]`` in [0, 1]; the first training
            images.
        labels: Class of each image, int64 ``[n]``.
        models: Number of surrogates M.
        epochs: Length T of a surrogate's training in epochs.
        local: Learning rate, weight decay and batch size of the surrogates; other fields are
            ignored.
        advance: Number of batches between two craft steps; one epoch by default.
        staggered: Start at different stages of training; otherwise all start untrained.
        generator: CPU generator of the order of the images.
    """

    def __init__(
        self,
        start: Start,
        pixels: Tensor,
        labels: Tensor,
        *,
        models: int,
        epochs: int,
        local: LocalSGD,
        advance: int | None = None,
        staggered: bool = True,
        generator: torch.Generator,
    ) -> None:
        self._start, self._labels, self._local = start, labels, local
        self._generator = generator
        epoch = -(-len(labels) // local.batch_size)
        self._advance = epoch if advance is None else advance
        self._life = epochs * epoch
        self._begun = 0
        self._members = [self._fresh() for _ in range(models)]
        if staggered:
            for index, member in enumerate(self._members):
                self._train(member, pixels, index * self._life // models)

    @property
    def surrogates(self) -> tuple[Surrogate, ...]:
        """One surrogate for each stage of training."""
        return tuple(member.surrogate for member in self._members)

    def advance(self, pixels: Tensor) -> None:
        """Train each surrogate further, or replace it at the end of its training."""
        for index, member in enumerate(self._members):
            if member.age + self._advance >= self._life:
                self._members[index] = self._fresh()
            else:
                self._train(member, pixels, self._advance)

    def _fresh(self) -> _Member:
        surrogate = self._start(self._begun)
        self._begun += 1
        parameters = {name: p.detach() for name, p in surrogate.parameters.items()}
        return _Member(replace(surrogate, parameters=parameters), age=0, ahead=[])

    def _train(self, member: _Member, pixels: Tensor, steps: int) -> None:
        now = member.surrogate
        for _ in range(steps):
            if not member.ahead:
                order = torch.randperm(len(self._labels), generator=self._generator)
                member.ahead = list(torch.split(order.to(pixels.device), self._local.batch_size))
            places = member.ahead.pop(0)
            after = unroll(
                now.model,
                now.parameters,
                now.buffers,
                now.network_input(pixels[places]),
                self._labels[places],
                local=replace(self._local, batch_size=len(places), epochs=1, momentum=0.0),
            )
            now = replace(now, parameters=after)
        member.surrogate = now
        member.age += steps


class Recorded:
    """The recorded training of an ensemble on clean images, reused for several targets.

    Training on clean images does not depend on the poisons, so it need not be repeated.

    Args:
        moments: Surrogates of each craft step; after the last step they start over.
    """

    def __init__(self, moments: Sequence[Sequence[Surrogate]]) -> None:
        self._moments = moments
        self._now = 0

    @property
    def surrogates(self) -> Sequence[Surrogate]:
        """Surrogates of the current craft step."""
        return self._moments[self._now % len(self._moments)]

    def advance(self, pixels: Tensor) -> None:
        """Go on to the next recorded step; the images are ignored."""
        self._now += 1


def record(ensemble: Ensemble, pixels: Tensor, *, steps: int) -> tuple[tuple[Surrogate, ...], ...]:
    """Train an ensemble on clean images; return its surrogates at each step for ``Recorded``."""
    moments = []
    for step in range(steps):
        if step:
            ensemble.advance(pixels)
        moments.append(tuple(ensemble.surrogates))
    return tuple(moments)
