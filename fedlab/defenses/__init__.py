"""Defenses: changes of a client's batches, gradients or update before anything is sent."""

from typing import TYPE_CHECKING, Any

from fedlab.defenses.base import DEFENSES, AnyDefense, Defense
from fedlab.defenses.pipeline import Batch, ClientContext, Pipeline
from fedlab.privacy.accounts import Account

if TYPE_CHECKING:
    from fedlab.data.shard import Shard

__all__ = [
    "DEFENSES",
    "Account",
    "AnyDefense",
    "Batch",
    "ClientContext",
    "Defense",
    "Pipeline",
    "Shard",
]


def __getattr__(name: str) -> Any:
    """Import ``Shard`` on first use: it needs PyTorch, and reading a scenario does not."""
    if name == "Shard":
        from fedlab.data.shard import Shard

        return Shard
    raise AttributeError(f"module 'fedlab.defenses' has no attribute {name!r}")
