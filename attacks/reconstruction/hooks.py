"""What can be heard inside the network while it simulates a client: statistics and features."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Taps:
    """Inputs of layers in the latest forward pass, still differentiable.

    Attributes:
        normalised: Input of each BatchNorm layer by name.
        features: Input of the last linear layer, float ``[n, features]``.
    """

    normalised: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None


@contextmanager
def tapped(model: nn.Module) -> Iterator[Taps]:
    """Listen to a network until the block ends."""
    taps = Taps()
    handles = [
        layer.register_forward_pre_hook(partial(_note_normalised, taps, name))
        for name, layer in model.named_modules()
        if isinstance(layer, BATCH_NORMS)
    ]
    if last := last_linear(model):
        handles.append(
            model.get_submodule(last).register_forward_pre_hook(partial(_note_features, taps))
        )
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def statistics_distance(taps: Taps, reference: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Squared distance of the batch's statistics from others, summed over BatchNorm layers.

    sum_l ||mean_l(x) - mean_l||^2 + ||var_l(x) - var_l||^2: the BatchNorm prior of GradInversion
    (arXiv 2104.07586), with plain squares.

    Args:
        taps: After a forward pass of the candidate images.
        reference: Mean and variance ``[channels]`` by name of the layer.
    """
    distances = []
    for name, (mean, variance) in reference.items():
        heard = taps.normalised[name]
        axes = [axis for axis in range(heard.ndim) if axis != 1]
        distances.append((heard.mean(axes) - mean).square().sum())
        distances.append((heard.var(axes, unbiased=False) - variance).square().sum())
    return torch.stack(distances).sum()


def running_statistics(
    model: nn.Module, buffers: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The running mean and variance of every BatchNorm layer, out of a network's buffers.

    Raises:
        ValueError: If the network keeps none.
    """
    kept = {
        name: (buffers[f"{name}.running_mean"], buffers[f"{name}.running_var"])
        for name, layer in model.named_modules()
        if isinstance(layer, BATCH_NORMS) and f"{name}.running_mean" in buffers
    }
    if not kept:
        raise ValueError(
            "the prior on BatchNorm statistics needs a network with BatchNorm that keeps them"
        )
    return kept


def recovered_features(model: nn.Module, gradient: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Inputs of the last layer, (dL/dW)_y / (dL/db)_y for the label y of each image.

    Exact for a label that one image alone has while the others' outputs for it are near zero;
    breaching's ``modern`` attack uses it so.

    Args:
        model: Its last linear layer must have a bias.
        gradient: By parameter name.
        labels: int64 ``[n]`` or soft ``[n, classes]``.

    Returns:
        float ``[n, features]``.

    Raises:
        ValueError: If there is no such layer.
    """
    name = last_linear(model)
    if name is None or f"{name}.bias" not in gradient:
        raise ValueError("the prior on features needs a network whose last layer has a bias")
    classes = labels.argmax(1) if labels.is_floating_point() else labels
    bias = gradient[f"{name}.bias"][classes].unsqueeze(1)
    safe = torch.where(bias == 0, torch.full_like(bias, torch.inf), bias)
    return gradient[f"{name}.weight"][classes] / safe


def features_distance(taps: Taps, recovered: Tensor) -> Tensor:
    """Mean squared distance of the candidates' features from recovered ones ``[n, features]``."""
    if taps.features is None:
        raise ValueError("the network has no linear layer whose input could be compared")
    return (taps.features - recovered).square().mean()


def last_linear(model: nn.Module) -> str | None:
    """Name of the last linear layer, ``None`` if there is none."""
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    return names[-1] if names else None


def _note_normalised(taps: Taps, name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    taps.normalised[name] = inputs[0]


def _note_features(taps: Taps, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    taps.features = inputs[0]
