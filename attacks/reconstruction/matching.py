"""Matching cost of candidate images: how far their simulated updates are from the captured ones.

Updates of the same images in several rounds are matched jointly. An update of several local steps
may be taken for one gradient at a point between the weights before and after (Zhu, Yao and
Blaschko, "Surrogate Model Extension (SME): A Fast and Accurate Weight Update Attack on Federated
Learning", ICML 2023, arXiv 2306.00127).
"""

from collections.abc import Mapping
from functools import reduce
from operator import add

import torch
from torch import Tensor

from attacks.reconstruction.components import OBJECTIVES
from attacks.reconstruction.objectives import Objective, masked
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem

START = 0.5
"""First point of each update between the global weights, 0, and the client's weights, 1, as in the
public code of SME."""


class Matching:
    """The objective of an attack, averaged over all rounds of a problem.

    With a sum in place of the mean, priors would count the less the more rounds there are: of one
    batch of 16 CIFAR-10 images, 7 leaked from eight rounds with a sum, and 16 with the mean.

    Args:
        problem: Captured payloads, network and knowledge.
        attack: Settings of the attack.

    Attributes:
        leaves: Tensors to optimise beside images and labels: with ``local_steps = "surrogate"``
            one, float ``[rounds]``, from which the points follow; otherwise none.

    Raises:
        ValueError: If a payload is zero or not finite, or steps of Adam are to be taken for one
            gradient.
    """

    def __init__(self, problem: Problem, attack: AttackSettings) -> None:
        # The latest round comes last, because priors read the inputs of layers in its simulation.
        self._rounds = (*problem.earlier, problem)
        self._objectives = [objective_of(attack, each.target) for each in self._rounds]
        self._local_steps = attack.local_steps
        # All leaves have the step size of the images. With this scale, points have one of
        # 1 / iterations: 0.001 in the 1,000 iterations of SME.
        self._scale = 1 / (attack.iterations * attack.lr)
        if attack.local_steps != "unroll":
            for each in self._rounds:
                _check_linear(each)
        several = any(each.payload.steps > 1 for each in self._rounds)
        shifts = torch.zeros(len(self._rounds), device=problem.device, requires_grad=True)
        self.leaves = [shifts] if several and attack.local_steps == "surrogate" else []

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        leaves: list[Tensor] | None = None,
        *,
        create_graph: bool = True,
    ) -> Tensor:
        """Matching cost of images, a scalar.

        Args:
            images: float ``[n, channels, height, width]``, normalised.
            labels: int64 ``[n]`` or soft ``[n, classes]``.
            leaves: Values of ``leaves`` to use instead of the current ones.
            create_graph: Keep the graph, so that the cost can be differentiated.
        """
        points = self.points(self.leaves if leaves is None else leaves)
        costs = (
            objective(each.simulate(images, labels, point=point, create_graph=create_graph))
            for each, objective, point in zip(self._rounds, self._objectives, points, strict=True)
        )
        return reduce(add, costs) / len(self._rounds)

    def points(self, leaves: list[Tensor]) -> list[Tensor | float | None]:
        """The point of each round's update; ``None`` where its local steps are simulated.

        Args:
            leaves: Values of ``leaves``.
        """
        if leaves:
            found = START + self._scale * leaves[0]
        return [
            None
            if self._local_steps == "unroll" or each.payload.steps == 1
            else (found[place] if leaves else 0.0)
            for place, each in enumerate(self._rounds)
        ]

    def confine(self) -> None:
        """Move points beyond 0 and 1 back."""
        with torch.no_grad():
            for shifts in self.leaves:
                shifts.clamp_(-START / self._scale, (1 - START) / self._scale)


def objective_of(attack: AttackSettings, target: Mapping[str, Tensor]) -> Objective:
    """Make the objective of an attack for a captured payload.

    Args:
        attack: Settings of the attack.
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the payload is zero or not finite.
    """
    factory = OBJECTIVES.resolve(attack.objective)
    return factory(target) if attack.mask is None else masked(factory, target, mask=attack.mask)


def _check_linear(problem: Problem) -> None:
    local = problem.knowledge.local
    if local is not None and local.adaptive and problem.payload.steps > 1:
        raise ValueError(
            f"{local.optimiser} takes steps that are no multiple of a gradient, so an update of "
            'several steps can only be simulated: set local_steps to "unroll"'
        )
