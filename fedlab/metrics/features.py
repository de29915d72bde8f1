"""Distances between images in the features of a network.

A small distance with a low PSNR means an image of the right kind that is not the right image. This
module contains and downloads no weights: a distance is only as good as the network given.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fedlab.core.modes import evaluation
from fedlab.metrics.images import comparable

# Avoids a division by zero where no channel responds, as in the authors' LPIPS code.
_EPSILON = 1e-10


def feature_distance(network: nn.Module, truth: Tensor, guess: Tensor) -> Tensor:
    """Mean squared difference of penultimate features, of each image.

    These are the inputs of the last linear layer to run. BatchNorm uses its running statistics, so
    images do not influence each other.

    Args:
        network: Network on pixels in [0, 1], which includes any normalisation; the modes of its
            modules are restored.
        truth: ``[n, channels, height, width]``, pixels in [0, 1], on the network's device.
        guess: The same shape; clamped to [0, 1].

    Returns:
        float64 ``[n]``, at least 0, in the squared units of the features: comparable between
        images, not between networks.

    Raises:
        ValueError: If the shapes differ, or no linear layer runs in the network.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> image = torch.zeros(1, 1, 2, 2)
        >>> feature_distance(network, image, image + 0.5)
        tensor([0.2500], dtype=torch.float64)
    """
    true, rebuilt = (_penultimate(network, images) for images in comparable(truth, guess))
    return (true - rebuilt).square().flatten(1).mean(1)


def logit_distance(network: nn.Module, truth: Tensor, guess: Tensor, *, labels: Tensor) -> Tensor:
    """Squared difference of the true label's logit, of each image: ``breaching``'s FMSE.

    Args:
        network: Network from pixels in [0, 1] to logits ``[n, classes]``; the modes of its modules
            are restored.
        truth: ``[n, channels, height, width]``, pixels in [0, 1], on the network's device.
        guess: The same shape; clamped to [0, 1].
        labels: int64 ``[n]``, labels of the true images.

    Returns:
        float64 ``[n]``, at least 0.

    Raises:
        ValueError: If the shapes differ.
    """
    true, rebuilt = (_logits(network, images) for images in comparable(truth, guess))
    place = labels.to(true.device).unsqueeze(1)
    return (true - rebuilt).gather(1, place).squeeze(1).square()


def lpips(
    truth: Tensor,
    guess: Tensor,
    *,
    backbone: nn.Module,
    layers: Sequence[str],
    weights: Sequence[Tensor],
) -> Tensor:
    """Learned perceptual image patch similarity of each image, with the weights given.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
    (arXiv 1801.03924), eq. 1, with the squared channel weights that their code calls weights. Of
    features y, scaled to unit length over channels at every place::

        sum over layers of  mean over places of  sum over channels of  w (y - y0)^2

    It equals their metric only with their backbone including its input scaling (theirs takes
    [-1, 1]) and their weights.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1], on the backbone's device.
        guess: The same shape; clamped to [0, 1].
        backbone: Network on pixels in [0, 1]. It runs in evaluation mode, and the modes of its
            modules are restored.
        layers: Names of modules of the backbone; their outputs are compared and must have shape
            ``[n, channels, rows, columns]``.
        weights: One non-negative weight per channel for each layer, in any shape.

    Returns:
        float64 ``[n]``, at least 0; 0 for equal images.

    Raises:
        ValueError: If images differ in shape, a layer does not exist or does not run, or the
            weights do not fit the layers.
    """
    if len(layers) != len(weights) or not layers:
        raise ValueError(f"lpips needs weights for each layer: {len(weights)} for {len(layers)}")
    if any(bool((weight < 0).any()) for weight in weights):
        raise ValueError("lpips needs weights of at least 0, or unlike images may score below 0")
    truth, guess = comparable(truth, guess)
    true, rebuilt = (_outputs(backbone, images, layers) for images in (truth, guess))
    total = torch.zeros(len(truth), dtype=torch.float64, device=truth.device)
    for layer, weight, x, y in zip(layers, weights, true, rebuilt, strict=True):
        if x.ndim != 4 or weight.numel() != x.shape[1]:
            raise ValueError(
                f"{weight.numel()} weights do not fit layer {layer!r} with output {list(x.shape)}"
            )
        squares = (_unit(x) - _unit(y)).square()
        shares = weight.detach().to(squares).view(1, -1, 1, 1)
        total += (shares * squares).sum(1).mean((1, 2))
    return total


def _unit(features: Tensor) -> Tensor:
    unit: Tensor = features / (features.norm(dim=1, keepdim=True) + _EPSILON)
    return unit


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    with evaluation(network):
        logits: Tensor = network(_as_parameters(network, images))
    return logits.double()


def _penultimate(network: nn.Module, images: Tensor) -> Tensor:
    """Inputs of the last linear layer to run, float64."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = [inputs[0]]

    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_pre_hook(keep) for module in linear]
    try:
        _logits(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ValueError("no linear layer ran in the network, so it has no penultimate features")
    return seen[0].double()


def _outputs(backbone: nn.Module, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Outputs of the named layers, float64, in the order of the names."""
    modules = dict(backbone.named_modules())
    if missing := [name for name in layers if name not in modules]:
        raise ValueError(f"the backbone has no layer {missing[0]!r}")
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # A copy, because an activation that works in place would overwrite the output.
            seen[name] = output.double().clone()

        return hook

    hooks = [modules[name].register_forward_hook(keep(name)) for name in layers]
    try:
        with evaluation(backbone):
            backbone(_as_parameters(backbone, images))
    finally:
        for handle in hooks:
            handle.remove()
    if silent := [name for name in layers if name not in seen]:
        raise ValueError(f"layer {silent[0]!r} of the backbone did not run")
    return [seen[name] for name in layers]


def _as_parameters(network: nn.Module, images: Tensor) -> Tensor:
    """Images in the data type of the network; float32 for a network without parameters."""
    parameter = next(network.parameters(), None)
    return images.float() if parameter is None else images.to(parameter.dtype)
