"""The ClientApp of fedlab."""

from simulations.client_app import app

__all__ = ["app"]
