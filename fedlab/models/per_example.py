"""A network that keeps the gradient of every example, or only its norm, in one of Opacus' modes.

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
clipping, which goes backwards twice and keeps norms alone."""


def with_per_example_gradients(
    model: nn.Module, mode: Mode, *, clipping_norm: float = 1.0
) -> AbstractGradSampleModule:
    """The network under Opacus' hooks, for a loss that is a sum over the examples.

    Args:
        model: Changed in place until ``to_standard_module`` is called on the result.
        mode: How the gradients are found.
        clipping_norm: Of ``ghost``, which clips on the way.

    Raises:
        NotImplementedError: If Opacus knows that it cannot take one of the layers.
    """
    if mode == "ew":
        return GradSampleModuleExpandedWeights(model, loss_reduction="sum")
    if not model.training:
        # Opacus' hooks pass by layers in evaluation mode. Of the layers that DP-SGD can train none
        # with parameters behaves in another way there, unlike Dropout, which has none.
        for layer in model.modules():
            layer.training = any(True for _ in layer.parameters(recurse=False))
    if mode == "ghost":
        return GradSampleModuleFastGradientClipping(
            model, loss_reduction="sum", max_grad_norm=clipping_norm
        )
    return GradSampleModule(model, loss_reduction="sum", force_functorch=mode == "functorch")
