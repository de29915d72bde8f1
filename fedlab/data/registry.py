"""Names of data sets and of partitions. Importing it needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedlab.core.plugins import Registry, check_callable

DATASETS: Registry[Callable[..., Any]] = Registry(
    "data set",
    group="fedlab.datasets",
    builtin={
        "digits": "fedlab.data.digits:load_digits",
        "mnist": "fedlab.data.torchvision_sets:mnist",
        "fashion-mnist": "fedlab.data.torchvision_sets:fashion_mnist",
        "cifar10": "fedlab.data.torchvision_sets:cifar10",
        "cifar100": "fedlab.data.torchvision_sets:cifar100",
        "folder": "fedlab.data.folders:load_folder",
        "npz": "fedlab.data.npz:load_npz",
        "hf": "fedlab.data.hugging_face:load_hub",
    },
    check=check_callable,
)
"""Functions that return an ``ImageData``; one with a parameter ``request`` gets a ``Request``."""

PARTITIONS: Registry[Callable[..., Any]] = Registry(
    "partition",
    group="fedlab.partitions",
    builtin={
        "iid": "fedlab.data.partitions:iid",
        "dirichlet": "fedlab.data.partitions:dirichlet",
        "classes": "fedlab.data.partitions:by_classes",
        "natural": "fedlab.data.partitions:natural",
    },
    check=check_callable,
)
"""Functions of type ``fedlab.data.partitions.Partition`` that spread images over clients."""
