"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, downloaded and read by torchvision."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from fedlab.core.errors import BadInput
from fedlab.data.images import ImageData
from fedlab.data.request import Request, reads

log = logging.getLogger(__name__)

Constants = tuple[float, ...]
"""Mean or standard deviation per channel over all training pixels, as usually quoted."""


@reads("download")
def mnist(request: Request) -> ImageData:
    """60,000 + 10,000 grey 28x28 digits (torchvision, download of 12 MB)."""
    return _load(request, "mnist", datasets.MNIST, (0.1307,), (0.3081,))


@reads("download")
def fashion_mnist(request: Request) -> ImageData:
    """60,000 + 10,000 grey 28x28 pieces of clothing (torchvision, download of 31 MB)."""
    return _load(request, "fashion-mnist", datasets.FashionMNIST, (0.2860,), (0.3530,))


@reads("download")
def cifar10(request: Request) -> ImageData:
    """50,000 + 10,000 colour 32x32 images of 10 classes (torchvision, download of 171 MB)."""
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return _load(request, "cifar10", datasets.CIFAR10, mean, std)


@reads("download")
def cifar100(request: Request) -> ImageData:
    """50,000 + 10,000 colour 32x32 images of 100 classes (torchvision, download of 169 MB)."""
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return _load(request, "cifar100", datasets.CIFAR100, mean, std)


def _load(
    request: Request, name: str, kind: Callable[..., Any], mean: Constants, std: Constants
) -> ImageData:
    if request.download:
        log.info("%s: looking in %s, and downloading missing files", name, request.root)
    try:
        # torchvision checks the MD5 of each file before it reads one.
        train, test = (
            kind(str(request.root), train=split, download=request.download)
            for split in (True, False)
        )
    except (OSError, RuntimeError, EOFError) as error:
        if request.download:
            raise BadInput(
                f"{name} cannot be downloaded to {request.root}: {str(error).strip()}"
            ) from error
        raise BadInput(
            f"{name} is not in {request.root}: add --set data.download=true to fetch it"
        ) from error
    return ImageData(
        name=name,
        train_images=_channels_first(train.data),
        train_labels=torch.as_tensor(train.targets),
        test_images=_channels_first(test.data),
        test_labels=torch.as_tensor(test.targets),
        classes=tuple(train.classes),
        mean=mean,
        std=std,
    )


def _channels_first(images: "Tensor | np.ndarray[Any, Any]") -> Tensor:
    tensor = torch.as_tensor(images)
    grey = tensor.ndim == 3
    return (tensor.unsqueeze(1) if grey else tensor.permute(0, 3, 1, 2)).contiguous()
