"""Per-example gradients, or only their norms, by one of Opacus' methods.

Yousefpour et al., "Opacus: User-Friendly Differential Privacy Library in PyTorch"
(arXiv 2109.12298); ghost clipping is by Li et al. (arXiv 2110.05679).
"""

from typing import Literal

from opacus import GradSampleModule
from opacus.grad_sample import (
    AbstractGradSampleModule,
    GradSampleModuleExpandedWeights,
    GradSampleModuleFastGradientClipping,
)
from torch import nn

Mode = Literal["hooks", "ew", "functorch", "ghost"]
"""``hooks`` on every layer, PyTorch's expanded weights (``ew``), ``functorch``'s vmap, or ``ghost``
clipping, which runs two backward passes and keeps only the norms."""


def with_per_example_gradients(
    model: nn.Module, mode: Mode, *, clipping_norm: float = 1.0
) -> AbstractGradSampleModule:
    """Wrap a network so that a backward pass leaves per-example gradients on its parameters.

    The loss must be a sum over the examples.

    Args:
        model: Network, changed in place until ``to_standard_module`` is called on the result.
        mode: Method by which the gradients are found.
        clipping_norm: Largest L2 norm of a per-example gradient, above 0; only ``ghost`` uses it,
            since it clips during the backward pass.

    Raises:
        NotImplementedError: If Opacus does not support one of the layers.
    """
    if mode == "ew":
        return GradSampleModuleExpandedWeights(model, loss_reduction="sum")
    if not model.training:
        # Opacus' hooks skip layers in evaluation mode. No layer with parameters that DP-SGD can
        # train behaves differently in training mode; Dropout does, but has no parameters.
        for layer in model.modules():
            layer.training = any(True for _ in layer.parameters(recurse=False))
    if mode == "ghost":
        return GradSampleModuleFastGradientClipping(
            model, loss_reduction="sum", max_grad_norm=clipping_norm
        )
    return GradSampleModule(model, loss_reduction="sum", force_functorch=mode == "functorch")
