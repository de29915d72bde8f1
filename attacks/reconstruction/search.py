"""One restart of an attack that optimises images: from a start to the images that fit best."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.reconstruction.cuda_graph import Recorded
from attacks.reconstruction.hooks import (
    Taps,
    features_distance,
    recovered_features,
    running_statistics,
    statistics_distance,
    tapped,
)
from attacks.reconstruction.objectives import OBJECTIVES, Objective, masked
from attacks.reconstruction.presets import Attack
from attacks.reconstruction.priors import square_norm, total_variation
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.steps import step_of

GAIN = 1e-3
"""Share by which the cost must fall over ``Attack.patience`` iterations for the search to go on."""


@dataclass(frozen=True)
class Progress:
    """Where a search stands, for whoever watches it.

    Attributes:
        restart: Which one.
        iteration: Steps done.
        cost: Matching cost at the last step, which is that of the images just before it.
        images: float ``[n, channels, height, width]``, pixels in [0, 1].
    """

    restart: int
    iteration: int
    cost: float
    images: Tensor = field(repr=False)


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        images: float ``[n, channels, height, width]``, normalised.
        labels: As optimised, or as given.
        cost: Matching cost of the images.
        costs: float ``[iterations]``, along the way.
        restart: Which one.
    """

    images: Tensor
    labels: Tensor
    cost: float
    costs: Tensor
    restart: int


class Search:
    """Minimises objective and priors from one start.

    Args:
        problem: What is to be explained.
        attack: Settings.
        start: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]``, or soft ``[n, classes]``; or logits with ``joint``.
        joint: Whether the labels are logits to be optimised as well.
        generator: CPU generator of noise on the way.
        restart: Which one this is.
        recorded: On a CUDA device: replay the step as a CUDA graph.
    """

    def __init__(
        self,
        problem: Problem,
        attack: Attack,
        *,
        start: Tensor,
        labels: Tensor,
        joint: bool,
        generator: torch.Generator,
        restart: int,
        recorded: bool = True,
    ) -> None:
        self._problem, self._attack, self._restart = problem, attack, restart
        self._low, self._high = box(problem)
        self._moved = start.clone().requires_grad_()
        self._labels = labels.clone().requires_grad_() if joint else labels
        self._joint = joint
        self._objective = objective_of(attack, problem.target)
        self._priors = _priors(problem, attack, labels)
        self._leaves = [self._moved, self._labels] if joint else [self._moved]
        self._rule = step_of(self._leaves, attack, generator=generator)
        self._hold = ExitStack()
        self._taps = self._hold.enter_context(tapped(problem.model)) if self._priors else Taps()
        together = attack.group and attack.restarts > 1
        self._centre = torch.zeros_like(start) if together else None
        self._best_total = torch.full((), torch.inf, device=start.device)
        self._best = [leaf.detach().clone() for leaf in self._leaves]
        self._cost = torch.zeros((), device=start.device)
        self._costs: list[Tensor] = []
        self._recorded = (
            Recorded(self._step, start.device)
            if recorded and self._rule.recordable and start.device.type == "cuda"
            else None
        )

    def __enter__(self) -> "Search":
        return self

    def __exit__(self, *reason: object) -> None:
        self._hold.close()

    @property
    def images(self) -> Tensor:
        """The present images, normalised."""
        self._join()
        return self._moved.detach()

    def advance(self, iteration: float, centre: Tensor | None = None) -> None:
        """Take one step; nothing in it waits for the device.

        Args:
            iteration: Counted from 0; fractional where a time budget sets the pace.
            centre: What all restarts agree on, for the group prior.
        """
        with nullcontext() if self._recorded is None else self._recorded.lane():
            if self._centre is not None and centre is not None:
                self._centre.copy_(centre)
            self._rule.prepare(iteration)
            if self._recorded is None:
                self._step()
            else:
                self._recorded()
            self._costs.append(self._cost.clone())

    def _step(self) -> None:
        """One step, on tensors that stay where they are."""
        seen: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            for leaf in self._leaves:
                leaf.grad = None
            images, matching, total = self._judged()
            seen.append((matching.detach(), total.detach()))
            if self._centre is not None:
                total = total + self._attack.group * (images - self._centre).square().mean()
            # Only these need a gradient: the last pass then skips those of the weights.
            total.backward(inputs=self._leaves)  # type: ignore[no-untyped-call]
            return total.detach()

        before = [leaf.detach().clone() for leaf in self._leaves]
        self._rule.move(closure)
        matching, total = seen[0]  # L-BFGS looks further ahead
        self._cost.copy_(matching)
        self._remember(before, total)
        if self._attack.boxed:
            with torch.no_grad():
                self._moved.clamp_(self._low, self._high)

    def _join(self) -> None:
        """Let whoever looks at the search wait for its steps."""
        if self._recorded is not None:
            self._recorded.join()

    def converged(self) -> bool:
        """Whether the cost has stopped to fall; asks the device only once in a while."""
        patience, done = self._attack.patience, len(self._costs)
        if not patience or done % patience or done < 2 * patience:
            return False
        self._join()
        last = torch.stack(self._costs[-patience:]).min()
        before = torch.stack(self._costs[-2 * patience : -patience]).min()
        return bool(last > (1 - GAIN) * before)

    def progress(self) -> Progress:
        """Where the search stands."""
        self._join()
        return Progress(
            restart=self._restart,
            iteration=len(self._costs),
            cost=float(self._costs[-1]),
            images=pixels(self._problem, self.images),
        )

    def result(self) -> Found:
        """The best images by objective and priors, the group's aside; or the last that are finite.

        Under ``keep = "last"`` as well a search that ended in no numbers falls back on its best.
        """
        self._join()
        last = [leaf.detach() for leaf in self._leaves]
        if self._attack.keep == "last" and all(leaf.isfinite().all() for leaf in last):
            kept = last
        else:
            _, _, total = self._judged()
            self._remember(last, total.detach())  # where the last step led
            kept = self._best
        images = kept[0]
        labels = kept[1].softmax(1) if self._joint else self._labels
        cost = self._objective(self._problem.simulate(images, labels, create_graph=False))
        costs = torch.stack(self._costs).cpu()
        return Found(images, labels, float(cost), costs, self._restart)

    def _remember(self, leaves: Sequence[Tensor], total: Tensor) -> None:
        """Keep the leaves if none before had a lower objective."""
        with torch.no_grad():
            better = total < self._best_total
            self._best_total.copy_(torch.where(better, total, self._best_total))
            for leaf, best in zip(leaves, self._best, strict=True):
                best.copy_(torch.where(better, leaf, best))

    def _judged(self) -> tuple[Tensor, Tensor, Tensor]:
        """The present images, their matching cost, and that with all priors but the group's."""
        attack = self._attack
        images = self._moved
        labels = self._labels.softmax(1) if self._joint else self._labels
        matching = self._objective(self._problem.simulate(images, labels))
        total = attack.match * matching
        if attack.tv:
            total = total + attack.tv * total_variation(
                images, isotropic=attack.tv_isotropic, opponents=attack.tv_opponents
            )
        if attack.norm:
            total = total + attack.norm * square_norm(images)
        for prior in self._priors:
            total = total + prior(self._taps)
        return images, matching, total


Prior = Callable[[Taps], Tensor]
"""A weighted prior on what the network computes for the candidate images."""


def _priors(problem: Problem, attack: Attack, labels: Tensor) -> list[Prior]:
    priors: list[Prior] = []
    single = problem.payload.kind == "gradient"
    if (attack.statistics or attack.features) and not single:
        raise ValueError(
            "priors on statistics and features are for the gradient of one batch: weights after "
            "local steps mix the passes of several networks"
        )
    if (attack.statistics or attack.features) and problem.knowledge.clipping_norm is not None:
        raise ValueError(
            "priors on statistics and features need one pass of the whole batch, but a client that "
            "clips per example makes one for each image"
        )
    if attack.statistics:
        reference = problem.knowledge.statistics
        if reference is None:
            reference = running_statistics(problem.model, problem.buffers)
        priors.append(lambda taps: attack.statistics * statistics_distance(taps, reference))
    if attack.features:
        recovered = recovered_features(problem.model, problem.target, labels)
        priors.append(lambda taps: attack.features * features_distance(taps, recovered))
    return priors


def objective_of(attack: Attack, target: Mapping[str, Tensor]) -> Objective:
    """The objective of an attack against a captured payload.

    Raises:
        ValueError: If the payload is zero or not finite.
    """
    objectives = OBJECTIVES[attack.objective]
    if attack.mask is None:
        return objectives(target)
    return masked(objectives, target, mask=attack.mask)


def box(problem: Problem) -> tuple[Tensor, Tensor]:
    """Smallest and largest normalised pixel of each channel, shaped to broadcast."""
    mean, std = _normalisation(problem)
    return (0 - mean) / std, (1 - mean) / std


def pixels(problem: Problem, images: Tensor) -> Tensor:
    """Normalised images as pixels in [0, 1]."""
    mean, std = _normalisation(problem)
    return (images * std + mean).clamp(0, 1)


def normalised(problem: Problem, images: Tensor) -> Tensor:
    """Pixels in [0, 1] as the network takes them."""
    mean, std = _normalisation(problem)
    return (images.to(problem.device) - mean) / std


def _normalisation(problem: Problem) -> tuple[Tensor, Tensor]:
    known = problem.knowledge
    mean = torch.tensor(known.mean, device=problem.device).view(1, -1, 1, 1)
    return mean, torch.tensor(known.std, device=problem.device).view(1, -1, 1, 1)
