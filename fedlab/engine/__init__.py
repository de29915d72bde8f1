"""What carries messages between server and clients."""

from flwr.serverapp import Grid

__all__ = ["Grid"]
