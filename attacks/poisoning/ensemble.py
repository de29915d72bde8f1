"""Surrogates of different ages that train on while poisons are made against them.

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
"""A freshly initialised surrogate; a different one for every number."""


class Ensemble(Protocol):
    """Surrogates that change from one craft step to the next."""

    @property
    def surrogates(self) -> Sequence[Surrogate]:
        """Those of this craft step."""

    def advance(self, pixels: Tensor) -> None:
        """Go on to the next craft step.

        Args:
            pixels: float ``[n, channels, height, width]``, the training images as they now are.
        """


@dataclass
class _Member:
    surrogate: Surrogate
    age: int
    ahead: list[Tensor]


class Staggered:
    """Surrogates that began at different times, train by plain SGD and start afresh when old.

    Model m of M starts m T / M steps old. Buffers stay as the surrogates brought them, so a
    network with running statistics has to bring some.

    Args:
        start: Fresh surrogates, by number.
        pixels: float ``[n, channels, height, width]`` in [0, 1], what they first train on.
        labels: int64 ``[n]``.
        models: M.
        epochs: Length T of a surrogate's life.
        local: Learning rate, weight decay and batch size of their training; the rest is ignored.
        advance: Batches between two craft steps; an epoch unless given.
        staggered: Whether ages differ at the beginning; otherwise all start untrained.
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
        """One of each age."""
        return tuple(member.surrogate for member in self._members)

    def advance(self, pixels: Tensor) -> None:
        """Train each surrogate on, or replace it by a fresh one if its time is over."""
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
    """An ensemble's way on clean images, to make poisons for several targets against.

    Training does not depend on poisons that it never sees, so it need not be done again.

    Args:
        moments: The surrogates of each craft step; after the last they begin again.
    """

    def __init__(self, moments: Sequence[Sequence[Surrogate]]) -> None:
        self._moments = moments
        self._now = 0

    @property
    def surrogates(self) -> Sequence[Surrogate]:
        """Those of this craft step."""
        return self._moments[self._now % len(self._moments)]

    def advance(self, pixels: Tensor) -> None:
        """Go on to the next moment, whatever the images are."""
        self._now += 1


def record(ensemble: Ensemble, pixels: Tensor, *, steps: int) -> tuple[tuple[Surrogate, ...], ...]:
    """The surrogates of each of so many craft steps on these images, for ``Recorded``."""
    moments = []
    for step in range(steps):
        if step:
            ensemble.advance(pixels)
        moments.append(tuple(ensemble.surrogates))
    return tuple(moments)
