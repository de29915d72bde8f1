"""Forward hooks that collect inputs of BatchNorm layers and of the last linear layer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class LayerInputs:
    """Inputs of layers in the latest forward pass, attached to the autograd graph.

    Attributes:
        batch_norms: Input of each BatchNorm layer by layer name.
        features: Input of the last linear layer, float ``[n, features]``; ``None`` before the first
            pass and in a network without one.
    """

    batch_norms: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None


@contextmanager
def collect_layer_inputs(model: nn.Module) -> Iterator[LayerInputs]:
    """Collect layer inputs at every forward pass until the block ends."""
    collected = LayerInputs()
    handles = [
        layer.register_forward_pre_hook(partial(_keep_batch_norm, collected, name))
        for name, layer in model.named_modules()
        if isinstance(layer, BATCH_NORMS)
    ]
    if last := last_linear(model):
        handles.append(
            model.get_submodule(last).register_forward_pre_hook(partial(_keep_features, collected))
        )
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def statistics_distance(
    inputs: LayerInputs, reference: Mapping[str, tuple[Tensor, Tensor]]
) -> Tensor:
    """Squared distance between batch and reference statistics, summed over BatchNorm layers.

    sum_l ||mean_l(x) - mean_l||^2 + ||var_l(x) - var_l||^2: the BatchNorm prior of GradInversion
    (arXiv 2104.07586), with plain squares.

    Args:
        inputs: Layer inputs after a forward pass of the candidate images.
        reference: Mean and variance ``[channels]`` by layer name.

    Returns:
        A scalar.
    """
    distances = []
    for name, (mean, variance) in reference.items():
        values = inputs.batch_norms[name]
        axes = [axis for axis in range(values.ndim) if axis != 1]
        distances.append((values.mean(axes) - mean).square().sum())
        distances.append((values.var(axes, unbiased=False) - variance).square().sum())
    return torch.stack(distances).sum()


def running_statistics(
    model: nn.Module, buffers: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Running mean and variance of every BatchNorm layer.

    Args:
        model: The network.
        buffers: The network's buffers by name.

    Raises:
        ValueError: If no layer keeps running statistics.
    """
    found = {
        name: (buffers[f"{name}.running_mean"], buffers[f"{name}.running_var"])
        for name, layer in model.named_modules()
        if isinstance(layer, BATCH_NORMS) and f"{name}.running_mean" in buffers
    }
    if not found:
        raise ValueError(
            "the prior on BatchNorm statistics needs a network with BatchNorm that keeps them"
        )
    return found


def recovered_features(model: nn.Module, gradient: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Inputs of the last linear layer, (dL/dW)_y / (dL/db)_y for the label y of each image.

    The result is exact for a label that only one image has, while the outputs of the other images
    for that label are near zero. The ``modern`` attack of breaching uses it in this way.

    Args:
        model: The network; its last linear layer must have a bias.
        gradient: Gradient by parameter name.
        labels: int64 ``[n]`` or soft ``[n, classes]``.

    Returns:
        float ``[n, features]``.

    Raises:
        ValueError: If the network has no linear layer with a bias.
    """
    name = last_linear(model)
    if name is None or f"{name}.bias" not in gradient:
        raise ValueError("the prior on features needs a network whose last layer has a bias")
    classes = labels.argmax(1) if labels.is_floating_point() else labels
    bias = gradient[f"{name}.bias"][classes].unsqueeze(1)
    safe = torch.where(bias == 0, torch.full_like(bias, torch.inf), bias)
    return gradient[f"{name}.weight"][classes] / safe


def features_distance(inputs: LayerInputs, recovered: Tensor) -> Tensor:
    """Mean squared distance of the candidates' features from recovered ones ``[n, features]``."""
    if inputs.features is None:
        raise ValueError("the network has no linear layer whose input could be compared")
    return (inputs.features - recovered).square().mean()


def last_linear(model: nn.Module) -> str | None:
    """Name of the last linear layer, or ``None`` if the network has none."""
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    return names[-1] if names else None


def _keep_batch_norm(
    collected: LayerInputs, name: str, layer: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    collected.batch_norms[name] = inputs[0]


def _keep_features(collected: LayerInputs, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    collected.features = inputs[0]
