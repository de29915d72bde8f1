"""Engines, which carry messages between the server and the clients."""

from flwr.serverapp import Grid

__all__ = ["Grid"]
