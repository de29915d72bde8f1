"""Networks by name, built for the shape of the images and the number of classes."""

from typing import TYPE_CHECKING, Any

from fedlab.models.registry import MODELS

if TYPE_CHECKING:
    from fedlab.models.networks import build

__all__ = ["MODELS", "build"]


def __getattr__(name: str) -> Any:
    """Import ``build`` on first use, since it needs PyTorch and reading a scenario does not."""
    if name == "build":
        from fedlab.models.networks import build

        return build
    raise AttributeError(f"module 'fedlab.models' has no attribute {name!r}")
