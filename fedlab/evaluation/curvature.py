"""Tests whether weights are a minimum of the loss: gradient and ends of the Hessian's spectrum."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.core.modes import kept_modes


@dataclass(frozen=True)
class Curvature:
    """The loss around some weights, to second order.

    Attributes:
        loss: Mean cross-entropy of the images.
        gradient_norm: L2 norm of its gradient with respect to all weights.
        smallest: Smallest eigenvalue of its Hessian, never below the true one; below 0 the weights
            are no minimum.
        largest: Largest eigenvalue of its Hessian, never above the true one.
    """

    loss: float
    gradient_norm: float
    smallest: float
    largest: float


def curvature(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    steps: int = 100,
    generator: torch.Generator,
) -> Curvature:
    """Measure the gradient and the extreme eigenvalues of the Hessian on one batch.

    The eigenvalues are those of Lanczos' method. Its span contains what the power iteration of the
    public code of arXiv 1910.00359 finds after as many products, so it is at least as close.

    Args:
        model: Network in float64, since eigenvalues near 0 are differences of large numbers; it is
            evaluated in evaluation mode and not changed.
        inputs: Normalised images, float64 ``[n, channels, height, width]``.
        labels: int64 ``[n]``.
        steps: Number of products of the Hessian and a vector; as many vectors are in memory.
        generator: CPU generator of the first vector.
    """
    weights = [each for each in model.parameters() if each.requires_grad]
    with kept_modes(model):
        model.eval()
        loss = functional.cross_entropy(model(inputs), labels)
        gradient = _flat(torch.autograd.grad(loss, weights, create_graph=True))

    def product(vector: Tensor) -> Tensor:
        return _flat(torch.autograd.grad(gradient @ vector, weights, retain_graph=True))

    start = torch.randn(len(gradient), generator=generator, dtype=gradient.dtype)
    values = _lanczos(product, start.to(gradient.device), steps)
    return Curvature(
        loss=loss.item(),
        gradient_norm=gradient.norm().item(),
        smallest=values.min().item(),
        largest=values.max().item(),
    )


def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _lanczos(product: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Eigenvalues of a symmetric matrix restricted to the span of ``start`` and its products."""
    basis = (start / start.norm()).unsqueeze(0)
    diagonal, beside = [], []
    for _ in range(min(steps, len(start))):
        following = product(basis[-1])
        diagonal.append(following @ basis[-1])
        for _ in range(2):  # the second time for what rounding left along earlier vectors
            following = following - basis.T @ (basis @ following)
        length = following.norm()
        if length <= 1e-10 * diagonal[0].abs():
            break
        beside.append(length)
        basis = torch.cat([basis, (following / length).unsqueeze(0)])
    off = torch.stack(beside[: len(diagonal) - 1]) if len(diagonal) > 1 else start[:0]
    matrix = torch.diag(torch.stack(diagonal)) + torch.diag(off, 1) + torch.diag(off, -1)
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values
