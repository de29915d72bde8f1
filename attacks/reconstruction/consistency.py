"""Whether a capture is what given images would have caused: the check behind every result."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.modes import mode
from attacks.reconstruction.objectives import dot, sum_of_squares
from attacks.reconstruction.problem import Problem


@dataclass(frozen=True)
class Consistency:
    """How near the update that images would cause is to the captured one.

    Attributes:
        cosine: Between the two, all tensors taken as one vector.
        relative_error: ||simulated - captured|| / ||captured||.
        worst: Name of the tensor with the largest share of the squared error.
    """

    cosine: float
    relative_error: float
    worst: str


def consistency(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    images: Tensor,
    labels: Tensor,
) -> Consistency:
    """Simulate the client on given images and compare with what it sent.

    With the true images, labels and order this is near 1 unless something is not as assumed: the
    mode of BatchNorm, a learning rate, a defense. With rebuilt images it says how well they
    explain the capture, which needs no truth.

    Args:
        model: The architecture; left as it is found.
        global_state: Parameters and buffers that the client started from, by name.
        payload: What it sent.
        knowledge: Assumptions, the order of the images among them.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]`` or soft ``[n, classes]``.

    Raises:
        ValueError: If network, capture and knowledge do not fit each other.
    """
    problem = Problem.of(model, global_state, payload, knowledge)
    with mode(model, training=knowledge.training_mode):
        found = problem.simulate(images, labels, create_graph=False)
    # float64, since cosines near 1 are told apart by their last digits.
    simulated = {name: tensor.detach().double() for name, tensor in found.items()}
    captured = {name: tensor.double() for name, tensor in problem.target.items()}
    error = {name: simulated[name] - tensor for name, tensor in captured.items()}
    norm = sum_of_squares(captured).sqrt()
    return Consistency(
        cosine=float(dot(simulated, captured) / (sum_of_squares(simulated).sqrt() * norm)),
        relative_error=float(sum_of_squares(error).sqrt() / norm),
        worst=max(error, key=lambda name: float(torch.linalg.vector_norm(error[name]))),
    )
