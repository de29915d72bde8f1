"""Torchvision's classifiers by name, at random weights and without in-place layers."""

import inspect

from torch import nn
from torchvision import models

from fedlab.core.errors import BadInput
from fedlab.models.norms import norm_layer
from fedlab.models.registry import Norm, Shape


def names() -> list[str]:
    """List the names of torchvision's classifiers."""
    return list(models.list_models(module=models))


def build(name: str, *, shape: Shape, classes: int, norm: Norm | None = None) -> nn.Module:
    """Build one of torchvision's classifiers.

    For images of one channel the first convolution is replaced by one that takes them, and every
    in-place layer is made to return a new tensor, as Opacus needs it.

    Args:
        name: Name of the network in torchvision.
        shape: Channels, height and width of an image.
        classes: Number of outputs.
        norm: Replaces the network's BatchNorm layers; by default they stay.

    Raises:
        BadInput: If the network is no classifier.
    """
    options: dict[str, bool | int] = {"num_classes": classes}
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    if "weights_backbone" in parameters:
        raise BadInput(f'model.name "{name}" is no classifier')
    if name in ("googlenet", "inception_v3"):
        # Auxiliary classifiers would add outputs that a plain cross-entropy cannot take.
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    network: nn.Module = models.get_model(name, weights=None, **options)
    if shape[0] != 3:
        _take_channels(network, shape[0])
    if norm is not None:
        _replace_norms(network, norm)
    for module in network.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010  (modules declare no such attribute)
    return network


def _take_channels(network: nn.Module, channels: int) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            first = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                stride=module.stride,  # type: ignore[arg-type]
                padding=module.padding,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            network.set_submodule(name, first)
            return


def _replace_norms(network: nn.Module, norm: Norm) -> None:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and norm != "batch":
            network.set_submodule(name, norm_layer(norm, module.num_features))
