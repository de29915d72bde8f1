"""Convolutions that pass an image on to the first fully connected layer, as in trap weights.

Boenisch et al., "When the Curious Abandon Honesty: Federated Learning Is Not Private" (EuroS&P
2023, arXiv 2112.02918), appendix B. Where a convolution takes steps of several pixels, each pixel
under a step goes to a channel of its own, so that none is lost.
"""

from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor, nn
from torch.func import functional_call

Shape = tuple[int, int, int]


class _Reached(Exception):
    """Ends a forward pass at the layer whose input is wanted; what is behind it need not work."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


def first_linear(model: nn.Module) -> str:
    """Name of the first fully connected layer of a network.

    Args:
        model: The network.

    Raises:
        ValueError: If there is none, or it has no bias.
    """
    layers = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    if not layers:
        raise ValueError("it has no fully connected layer")
    name, first = layers[0]
    if first.bias is None:
        raise ValueError(f"its first fully connected layer {name} has no bias")
    return str(name)


def passing_weights(
    model: nn.Module, layer: str, *, channels: int, lift: float
) -> dict[str, Tensor]:
    """Weights of all convolutions before a layer under which they move pixels to channels.

    The first one lifts all pixels above 0, where ReLU does not change them.

    Args:
        model: The network; it stays unchanged.
        layer: Name of the layer.
        channels: Channels of an image.
        lift: Bias of the first convolution: distance of the darkest pixel below 0, at least 0.

    Returns:
        Weights and biases by name; none without convolutions.

    Raises:
        ValueError: If a convolution has too few channels, or skips pixels.
    """
    weights: dict[str, Tensor] = {}
    for name, each in model.named_modules():
        if name == layer:
            break
        if isinstance(each, nn.Conv2d):
            weights[f"{name}.weight"] = _kernels(name, each, channels)
            if each.bias is not None:
                weights[f"{name}.bias"] = torch.full_like(each.bias.detach(), lift)
            channels, lift = channels * each.stride[0] * each.stride[1], 0.0
    return weights


def layer_input(
    model: nn.Module, state: Mapping[str, Tensor], layer: str, images: Tensor
) -> Tensor:
    """Input of a layer for a batch of images.

    Args:
        model: The network; it stays unchanged.
        state: Its parameters and buffers by name; they stay unchanged.
        layer: Name of the layer.
        images: Normalised images, float ``[n, channels, height, width]``.

    Returns:
        float ``[n, features]``, attached to the autograd graph of the images.

    Raises:
        ValueError: If the layer is not used.
    """

    def stop(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        raise _Reached(given[0])

    handle = model.get_submodule(layer).register_forward_pre_hook(stop)
    try:
        functional_call(model, {name: each.clone() for name, each in state.items()}, (images,))
    except _Reached as reached:
        return reached.features
    finally:
        handle.remove()
    raise ValueError(f"{layer} is not used")


def images_passed(
    model: nn.Module, state: Mapping[str, Tensor], layer: str, features: Tensor, *, shape: Shape
) -> Tensor:
    """The images to which inputs of a layer belong, if the network passes images on to it.

    What is before the layer then only moves and lifts pixels, so that its derivative moves them
    back.

    Args:
        model: The network; it stays unchanged.
        state: Its parameters and buffers by name, with ``passing_weights``.
        layer: Name of the layer.
        features: Inputs of the layer, float ``[n, features]``.
        shape: Channels, height and width of an image.

    Returns:
        Normalised images, float ``[n, channels, height, width]``.
    """
    start = torch.zeros((len(features), *shape), device=features.device, dtype=features.dtype)
    passed = layer_input(model, state, layer, start.requires_grad_())
    (images,) = torch.autograd.grad(passed, start, features - passed.detach())
    return images


def _kernels(name: str, convolution: nn.Conv2d, channels: int) -> Tensor:
    """Kernels that copy each pixel under a step of the convolution to a channel of its own."""
    kernels = torch.zeros_like(convolution.weight.detach())
    padding, (outputs, inputs, height, width) = convolution.padding, kernels.shape
    steps = [*product(range(channels), *(range(each) for each in convolution.stride))]
    if len(steps) > outputs:
        raise ValueError(f"{name} has {outputs} channels, and the image needs {len(steps)}")
    if isinstance(padding, str):
        raise ValueError(f'{name} has its padding given as "{padding}" and not as numbers')
    for place, (channel, down, right) in enumerate(steps):
        row, column = padding[0] + down, padding[1] + right
        if channel >= inputs or row >= height or column >= width:
            raise ValueError(f"{name} does not see every pixel of the image in every channel")
        kernels[place, channel, row, column] = 1
    return kernels
