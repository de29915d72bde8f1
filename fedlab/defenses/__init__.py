"""Defenses: what a client does to its batches, gradients or update before anything is sent."""

from fedlab.defenses.base import DEFENSES, AnyDefense, Defense
from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline
from fedlab.privacy.accounts import Account

__all__ = [
    "DEFENSES",
    "Account",
    "AnyDefense",
    "Batch",
    "ClientContext",
    "Defense",
    "Pipeline",
]
