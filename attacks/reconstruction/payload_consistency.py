"""Comparison of a captured payload with the simulated payload of given images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.modes import mode
from attacks.reconstruction.objectives import dot, misalignment, sum_of_squares
from attacks.reconstruction.problem import Problem

POINTS = 10
"""Number of intervals between the weights before and after, at whose ends gradients are tried."""


@dataclass(frozen=True)
class Consistency:
    """Agreement between the simulated payload of images and a captured one.

    Attributes:
        cosine: Cosine between the two, all tensors taken as one vector.
        relative_error: ||simulated - captured|| / ||captured||.
        length: ||simulated|| / ||captured||.
        worst: Name of the tensor with the largest share of the squared error.
        one_gradient: Largest cosine between the captured payload and one gradient of the images, at
            a point between the weights before and after several local steps of SGD: how much an
            attack with ``local_steps = "surrogate"`` can explain. NaN for one step, and for Adam.
        point: That point, from 0 for the weights before to 1 for those after; NaN likewise.
    """

    cosine: float
    relative_error: float
    length: float
    worst: str
    one_gradient: float = math.nan
    point: float = math.nan


def consistency(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    images: Tensor,
    labels: Tensor,
) -> Consistency:
    """Simulate the client on given images and compare the result with its payload.

    With the true images, labels and order the cosine is near 1 unless an assumption is wrong, such
    as the mode of BatchNorm, a learning rate or a defense. With reconstructed images it measures
    how well they explain the capture, without ground truth.

    Args:
        model: The architecture; it is not changed.
        global_state: Parameters and buffers that the client started from, by name.
        payload: Gradient or weights that the client sent.
        knowledge: Assumptions of the attacker, including the order of the images.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]`` or soft ``[n, classes]``.

    Raises:
        ValueError: If network, capture and knowledge do not fit each other.
    """
    problem = Problem.of(model, global_state, payload, knowledge)
    with mode(model, training=knowledge.training_mode):
        found = problem.simulate(images, labels, create_graph=False)
        one_gradient, point = _best_gradient(problem, images, labels)
    # float64, because cosines near 1 differ in their last digits only.
    simulated = {name: found[name].detach().double() for name in problem.target}
    captured = {name: tensor.double() for name, tensor in problem.target.items()}
    error = {name: simulated[name] - tensor for name, tensor in captured.items()}
    norm, length = sum_of_squares(captured).sqrt(), sum_of_squares(simulated).sqrt()
    return Consistency(
        cosine=float(dot(simulated, captured) / (length * norm)),
        relative_error=float(sum_of_squares(error).sqrt() / norm),
        length=float(length / norm),
        worst=max(error, key=lambda name: float(torch.linalg.vector_norm(error[name]))),
        one_gradient=one_gradient,
        point=point,
    )


def _best_gradient(problem: Problem, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Largest cosine of one gradient between the weights with the payload, and its point."""
    local = problem.knowledge.local
    if problem.payload.steps == 1 or local is None or local.adaptive:
        return math.nan, math.nan
    distance = misalignment(problem.target)
    cosines = {}
    for point in (place / POINTS for place in range(POINTS + 1)):
        found = problem.simulate(images, labels, point=point, create_graph=False)
        cosines[point] = 1 - float(distance(found))
    best = max(cosines, key=cosines.__getitem__)
    return cosines[best], best
