"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, read and fetched by torchvision."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from fedlab.core.errors import BadInput
from fedlab.data.images import ImageData
from fedlab.data.request import Request, Source

log = logging.getLogger(__name__)

Constants = tuple[float, ...]


def _load(
    request: Request, *, name: str, kind: Callable[..., Any], mean: Constants, std: Constants
) -> ImageData:
    if request.download:
        log.info("%s: looking in %s, and downloading what is missing", name, request.root)
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


def _source(
    description: str, name: str, kind: Callable[..., Any], mean: Constants, std: Constants
) -> Source:
    return Source(description, partial(_load, name=name, kind=kind, mean=mean, std=std))


# Mean and standard deviation over all training pixels, as usually quoted.
TORCHVISION_SETS = {
    "mnist": _source(
        "60,000 + 10,000 grey 28x28 digits (torchvision, download of 12 MB)",
        "mnist",
        datasets.MNIST,
        (0.1307,),
        (0.3081,),
    ),
    "fashion-mnist": _source(
        "60,000 + 10,000 grey 28x28 pieces of clothing (torchvision, download of 31 MB)",
        "fashion-mnist",
        datasets.FashionMNIST,
        (0.2860,),
        (0.3530,),
    ),
    "cifar10": _source(
        "50,000 + 10,000 colour 32x32 images of 10 classes (torchvision, download of 171 MB)",
        "cifar10",
        datasets.CIFAR10,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": _source(
        "50,000 + 10,000 colour 32x32 images of 100 classes (torchvision, download of 169 MB)",
        "cifar100",
        datasets.CIFAR100,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}
