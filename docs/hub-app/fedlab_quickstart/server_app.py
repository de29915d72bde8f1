"""The ServerApp of fedlab."""

from simulations.server_app import app

__all__ = ["app"]
