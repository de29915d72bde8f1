"""One restart of an attack that optimises images."""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.cuda_graph import GraphedFunction
from attacks.reconstruction.components import PARAMETRISATIONS
from attacks.reconstruction.graph_prior import GraphVariation, graph_variation_prior
from attacks.reconstruction.hooks import LayerInputs, collect_layer_inputs
from attacks.reconstruction.matching import Matching
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.priors import (
    PriorContext,
    check_priors,
    norm_prior,
    total_variation_prior,
)
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.steps import step_rule
from attacks.reconstruction.watch import Progress

GAIN = 1e-3
"""Share by which the cost must fall over ``patience`` iterations for the search to go on."""

FALLING = 0.8
"""Share of the iterations over which a raised weight of the total variation falls."""

PIXEL_PRIORS = (total_variation_prior, norm_prior, graph_variation_prior)
"""Priors that need no inputs of layers, so no hooks are registered for them."""


@dataclass(frozen=True)
class SearchResult:
    """Result of one restart.

    Attributes:
        images: float ``[n, channels, height, width]``, normalised.
        labels: Optimised labels, or the given ones.
        cost: Matching cost of the images.
        costs: float ``[iterations]``, matching cost before each step.
        restart: Index of the restart, counted from 0.
    """

    images: Tensor
    labels: Tensor
    cost: float
    costs: Tensor
    restart: int


class Search:
    """Minimises the objective and the priors from one starting point.

    Args:
        problem: Captured payload, network and knowledge.
        attack: Settings of the attack.
        first: float ``[n, channels, height, width]``, normalised images to start from.
        labels: int64 ``[n]`` or soft ``[n, classes]``; logits ``[n, classes]`` with ``joint``.
        joint: Optimise the labels as well.
        generator: CPU generator of the Langevin noise.
        restart: Index of the restart, counted from 0.
        cuda_graph: Replay each step as a CUDA graph on a CUDA device.

    Raises:
        ValueError: If the payload is zero or not finite, or a prior cannot work on it.
    """

    def __init__(
        self,
        problem: Problem,
        attack: AttackSettings,
        *,
        first: Tensor,
        labels: Tensor,
        joint: bool,
        generator: torch.Generator,
        restart: int,
        cuda_graph: bool = True,
    ) -> None:
        self._problem, self._attack, self._restart = problem, attack, restart
        self._canvas = PARAMETRISATIONS.resolve(attack.parametrisation)(
            first, problem, attack, generator
        )
        self._labels = labels.clone().requires_grad_() if joint else labels
        self._joint = joint
        self._matching = Matching(problem, attack)
        self._leaves = [
            *self._canvas.leaves,
            *([self._labels] if joint else []),
            *self._matching.leaves,
        ]
        self._rule = step_rule(self._leaves, attack, generator=generator)
        check_priors(problem, attack)
        self._priors = attack.weighted_priors
        self._stack = ExitStack()
        inputs = LayerInputs()
        if any(prior not in PIXEL_PRIORS for prior, _ in self._priors):
            inputs = self._stack.enter_context(collect_layer_inputs(problem.model))
        self._context = PriorContext(problem, attack, labels, inputs)
        self._tv_factor = torch.full((), attack.tv_start, device=first.device)
        together = attack.group and attack.restarts > 1
        self._centre = torch.zeros_like(first) if together else None
        self._best_total = torch.full((), torch.inf, device=first.device)
        self._best = [leaf.detach().clone() for leaf in self._leaves]
        self._cost = torch.zeros((), device=first.device)
        self._costs: list[Tensor] = []
        # Super-pixels that are cut anew change the computation, which a CUDA graph replays.
        changes = any(isinstance(prior, GraphVariation) for prior, _ in self._priors)
        recorded = cuda_graph and self._rule.graphable and first.device.type == "cuda"
        self._graphed = (
            GraphedFunction(self._step, first.device) if recorded and not changes else None
        )

    def __enter__(self) -> "Search":
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    @property
    def images(self) -> Tensor:
        """The current images, normalised."""
        self._wait()
        return self._shown([leaf.detach() for leaf in self._leaves])

    def advance(self, iteration: float, centre: Tensor | None = None) -> None:
        """Take one step without waiting for the device.

        Args:
            iteration: Iteration of the schedule, counted from 0; fractional with a time budget.
            centre: Registered mean of all restarts, for the group prior.
        """
        with nullcontext() if self._graphed is None else self._graphed.stream():
            if self._centre is not None and centre is not None:
                self._centre.copy_(centre)
            self._rule.prepare(iteration)
            if self._attack.tv_start > 1:
                done = min(1.0, iteration / (FALLING * self._attack.iterations))
                self._tv_factor.fill_(self._attack.tv_start ** (1 - done))
            if self._graphed is None:
                self._step()
            else:
                self._graphed()
            self._costs.append(self._cost.clone())

    def _step(self) -> None:
        """Take one step on tensors that keep their memory addresses, as a CUDA graph needs."""
        evaluated: list[tuple[Tensor, Tensor]] = []

        def closure() -> Tensor:
            for leaf in self._leaves:
                leaf.grad = None
            images, matching, total = self._evaluate()
            evaluated.append((matching.detach(), total.detach()))
            if self._centre is not None:
                total = total + self._attack.group * (images - self._centre).square().mean()
            # Only the leaves need a gradient, so the backward pass skips that of the weights.
            total.backward(inputs=self._leaves)  # type: ignore[no-untyped-call]
            return total.detach()

        before = [leaf.detach().clone() for leaf in self._leaves]
        self._rule.move(closure)
        matching, total = evaluated[0]  # L-BFGS evaluates further points as well
        self._cost.copy_(matching)
        self._keep_best(before, total)
        self._matching.confine()
        self._canvas.confine()

    def _wait(self) -> None:
        """Make the caller's stream wait for the steps of the search."""
        if self._graphed is not None:
            self._graphed.join()

    def converged(self) -> bool:
        """True once the cost stopped falling; reads from the device every ``patience`` steps."""
        patience, done = self._attack.patience, len(self._costs)
        if not patience or done % patience or done < 2 * patience:
            return False
        self._wait()
        last = torch.stack(self._costs[-patience:]).min()
        before = torch.stack(self._costs[-2 * patience : -patience]).min()
        return bool(last > (1 - GAIN) * before)

    def progress(self) -> Progress:
        """Return the current state."""
        self._wait()
        return Progress(
            restart=self._restart,
            iteration=len(self._costs),
            cost=float(self._costs[-1]),
            images=self._problem.pixels(self.images),
        )

    def result(self) -> SearchResult:
        """Return the images that ``keep`` selects.

        Under ``best`` these are the images with the lowest objective plus priors, without the group
        prior. Under ``last`` a search that ended in values that are not finite returns its best.
        """
        self._wait()
        last = [leaf.detach() for leaf in self._leaves]
        if self._attack.keep == "last" and all(leaf.isfinite().all() for leaf in last):
            chosen = last
        else:
            _, _, total = self._evaluate()
            self._keep_best(last, total.detach())  # the last step has not been evaluated yet
            chosen = self._best
        images = self._shown(chosen)
        labels = chosen[len(self._canvas.leaves)].softmax(1) if self._joint else self._labels
        points = chosen[len(chosen) - len(self._matching.leaves) :]
        cost = self._matching(images, labels, points, create_graph=False)
        costs = torch.stack(self._costs).cpu()
        return SearchResult(images, labels, float(cost), costs, self._restart)

    def _shown(self, leaves: Sequence[Tensor]) -> Tensor:
        """Normalised images of values of all leaves."""
        return self._canvas(leaves[: len(self._canvas.leaves)])

    def _keep_best(self, leaves: Sequence[Tensor], total: Tensor) -> None:
        """Store the leaves if their total is the lowest so far."""
        with torch.no_grad():
            better = total < self._best_total
            self._best_total.copy_(torch.where(better, total, self._best_total))
            for leaf, best in zip(leaves, self._best, strict=True):
                best.copy_(torch.where(better, leaf, best))

    def _evaluate(self) -> tuple[Tensor, Tensor, Tensor]:
        """Current images, their matching cost, and that plus all priors but the group prior."""
        images = self._shown(self._leaves)
        labels = self._labels.softmax(1) if self._joint else self._labels
        matching = self._matching(images, labels)
        total = self._attack.match * matching
        for prior, weight in self._priors:
            falls = prior is total_variation_prior and self._attack.tv_start > 1
            factor = self._tv_factor * weight if falls else weight
            total = total + factor * prior(images, self._context)
        return images, matching, total
