"""Reconstruction methods: functions from a captured payload to images.

A method of one's own is a function ``(problem, settings, options) -> Reconstruction`` that fills in
images and labels; ``invert`` adds the settings, the wall time and whether labels were known.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.reconstruction.analytic import TOLERANCE, first_linear, invert_first_layer
from attacks.reconstruction.candidates import STEPS
from attacks.reconstruction.components import OBJECTIVES
from attacks.reconstruction.disaggregation import ROUNDS
from attacks.reconstruction.optimise import search_images
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.result import Reconstruction
from attacks.reconstruction.search import SearchResult
from attacks.reconstruction.watch import Watch, continued

MOST_TOLERANCE = 2e-5
"""Largest relative tolerance on rows in the analytic method. With a larger one, rows of different
images were taken for rows of the same image."""

WARM = 1 / 3
"""Share of the iterations in which pixels are searched for before a generator begins with them."""


@dataclass(frozen=True)
class RunOptions:
    """How a method runs, apart from its settings.

    Attributes:
        generator: CPU generator of all random numbers.
        initial_images: float ``[n, channels, height, width]``, pixels in [0, 1], to start from
            instead of the initialisation of the settings; restarts after the first add noise.
        seconds: Time budget in seconds; ``None`` for none.
        workers: Number of restarts that run at the same time.
        cuda_graph: Replay each step as a CUDA graph on a CUDA device.
        watch: Callback that receives the progress; ``None`` for none.
    """

    generator: torch.Generator
    initial_images: Tensor | None = None
    seconds: float | None = None
    workers: int = 1
    cuda_graph: bool = True
    watch: Watch | None = None


Method = Callable[[Problem, AttackSettings, RunOptions], Reconstruction]
"""Function that reconstructs the images behind a payload. The network is in the client's mode."""


def optimise(problem: Problem, settings: AttackSettings, options: RunOptions) -> Reconstruction:
    """Search for images by gradient descent on the objective and the priors.

    A generator begins with images that a search for pixels finds in the first part of the
    iterations, because images of one class that begin alike blend into each other.
    """
    if settings.parametrisation == "pixels" or options.initial_images is not None:
        found = _searched(problem, settings, options)
        costs = found.costs
    else:
        iterations = max(1, int(WARM * settings.iterations))
        pixels = replace(settings, parametrisation="pixels", iterations=iterations)
        seconds = options.seconds
        first = _searched(
            problem,
            replace(pixels, **STEPS["smooth"]),
            replace(options, seconds=seconds and WARM * seconds),
        )
        done = len(first.costs)
        found = _searched(
            replace(problem, knowledge=replace(problem.knowledge, labels=first.labels)),
            replace(settings, iterations=max(1, settings.iterations - iterations)),
            replace(
                options,
                initial_images=problem.pixels(first.images),
                seconds=seconds and (1 - WARM) * seconds,
                watch=options.watch and continued(options.watch, done),
            ),
        )
        costs = torch.cat([first.costs, found.costs])
    return Reconstruction(
        images=problem.pixels(found.images),
        labels=found.labels,
        cost=found.cost,
        costs=costs,
        restart=found.restart,
        rounds=1 + len(problem.earlier),
    )


def _searched(problem: Problem, settings: AttackSettings, options: RunOptions) -> SearchResult:
    return search_images(
        problem,
        settings,
        generator=options.generator,
        initial_images=options.initial_images,
        seconds=options.seconds,
        workers=options.workers,
        cuda_graph=options.cuda_graph,
        watch=options.watch,
    )


def analytic(problem: Problem, settings: AttackSettings, options: RunOptions) -> Reconstruction:
    """Solve for the input of a fully connected first layer, without optimisation."""
    return _first_layer(problem, settings, options, rounds=ROUNDS)


def spear(problem: Problem, settings: AttackSettings, options: RunOptions) -> Reconstruction:
    """Do the same with as many rounds as the settings have iterations."""
    return _first_layer(problem, settings, options, rounds=settings.iterations)


def _first_layer(
    problem: Problem, settings: AttackSettings, options: RunOptions, *, rounds: int
) -> Reconstruction:
    known = problem.knowledge
    low, high = problem.pixel_range
    recovered = invert_first_layer(
        problem.model,
        problem.mean_gradient(),
        image_shape=known.image_shape,
        num_images=known.num_images,
        low=low,
        high=high,
        tolerance=_tolerance(problem),
        rounds=rounds,
    )
    labels = known.labels
    if labels is None:
        labels = problem.infer_labels("auto", options.generator)
    simulated = problem.simulate(recovered.inputs, labels, create_graph=False)
    cost = OBJECTIVES.resolve(settings.objective)(problem.target)(simulated)
    return Reconstruction(images=problem.pixels(recovered.inputs), labels=labels, cost=float(cost))


def _tolerance(problem: Problem) -> float:
    """Largest relative difference of rows from the same image; larger for rounded weights."""
    names = first_linear(problem.model, problem.target)
    rounding = 0.0 if names is None else problem.rounding(names[0])
    return max(TOLERANCE, min(rounding, MOST_TOLERANCE))
