"""Any of torchvision's classifiers by name, at random weights and fit for Opacus."""

import inspect

from torch import nn
from torchvision import models

from fedlab.core.errors import BadInput
from fedlab.models.norms import norm_layer
from fedlab.models.request import Norm, Request


def names() -> list[str]:
    """Names of torchvision's classifiers."""
    return list(models.list_models(module=models))


def build(name: str, request: Request) -> nn.Module:
    """A network of torchvision; inputs of one channel are given to a first layer made for them.

    Raises:
        BadInput: If a width is asked for, which these networks do not have.
    """
    if request.width is not None:
        raise BadInput(f'model.width: torchvision\'s "{name}" has no free width, leave it out')
    options: dict[str, bool | int] = {"num_classes": request.classes}
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    if "weights_backbone" in parameters:
        raise BadInput(f'model.name "{name}" is no classifier')
    if name in ("googlenet", "inception_v3"):
        # Their auxiliary classifiers would add outputs that a plain cross-entropy cannot take.
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = request.shape[1]
    network: nn.Module = models.get_model(name, weights=None, **options)
    if request.shape[0] != 3:
        _take_channels(network, request.shape[0])
    if request.norm is not None:
        _exchange_norms(network, request.norm)
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


def _exchange_norms(network: nn.Module, norm: Norm) -> None:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and norm != "batch":
            network.set_submodule(name, norm_layer(norm, module.num_features))
