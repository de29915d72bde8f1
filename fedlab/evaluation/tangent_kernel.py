"""The neural tangent kernel of a network on a few images, to see how far training moves it.

Jacot et al. 2018 (arXiv 1806.07572). Very wide networks train as if it were constant; Goldblum et
al., "Truth or Backpropaganda?" (arXiv 1910.00359), measure how far real ones are from that.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedlab.core.memory import check_memory
from fedlab.core.modes import kept_modes

COLUMNS = 2**16
"""Number of weights whose products are added at a time, in float64."""


@dataclass(frozen=True)
class TangentKernel:
    """Products of the gradients of all outputs for all images.

    Attributes:
        matrix: float64 ``[n * classes, n * classes]``, the outputs of one image next to each other.
    """

    matrix: Tensor = field(repr=False)

    @property
    def norm(self) -> float:
        """Frobenius norm of the matrix."""
        return float(self.matrix.norm())

    def correlation(self, other: "TangentKernel") -> float:
        """Pearson correlation, in [-1, 1], of all entries with those of another kernel.

        Args:
            other: Kernel of the same images, such as that of the first round.
        """
        pair = torch.stack([self.matrix.flatten(), other.matrix.flatten()])
        return float(torch.corrcoef(pair)[0, 1])


def tangent_kernel(model: nn.Module, inputs: Tensor) -> TangentKernel:
    """Compute the kernel K = J J^T, with J the derivative of all outputs by all weights.

    It takes one backward pass for each image and class. The network is evaluated in evaluation
    mode and not changed.

    Args:
        model: Network from normalised images to outputs ``[n, classes]``.
        inputs: Normalised images, float ``[n, channels, height, width]``, at least one.

    Raises:
        BadInput: If the derivatives do not fit into memory.
    """
    weights = [each for each in model.parameters() if each.requires_grad]
    rows: list[Tensor] = []
    with kept_modes(model):
        model.eval()
        for image in torch.split(inputs, 1):
            outputs = model(image)[0]
            if not rows:
                size = 4 * len(inputs) * len(outputs) * sum(each.numel() for each in weights)
                check_memory(size, f"the derivatives of a tangent kernel of {len(inputs)} images")
            for output in outputs:
                parts = torch.autograd.grad(
                    output, weights, retain_graph=True, materialize_grads=True
                )
                rows.append(torch.cat([part.flatten() for part in parts]))
    derivative = torch.stack(rows)
    matrix = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=derivative.device)
    for part in torch.split(derivative, COLUMNS, dim=1):
        matrix += part.double() @ part.double().T
    return TangentKernel(matrix.cpu())
