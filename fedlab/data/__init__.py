"""Images, data sets by name, and partitions of their training images over clients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedlab.data.registry import DATASETS, PARTITIONS

if TYPE_CHECKING:
    from fedlab.data.images import ImageData
    from fedlab.data.loading import load
    from fedlab.data.partitions import partition
    from fedlab.data.request import Request, takes_argument

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "ImageData",
    "Request",
    "load",
    "partition",
    "takes_argument",
]

_MODULES = {
    "ImageData": "images",
    "Request": "request",
    "load": "loading",
    "partition": "partitions",
    "takes_argument": "request",
}


def __getattr__(name: str) -> Any:
    """Import on first use, since most of it needs PyTorch and reading a scenario does not."""
    if name in _MODULES:
        return getattr(import_module(f"fedlab.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'fedlab.data' has no attribute {name!r}")
