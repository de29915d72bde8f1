"""Networks by name, built for the shape of the images and the number of classes."""

from fedlab.models.registry import MODELS, build

__all__ = ["MODELS", "build"]
