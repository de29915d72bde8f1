"""All that fedlab takes from Flower besides its public packages, in one place.

``flwr.app``, ``flwr.clientapp``, ``flwr.serverapp`` and ``flwr.serverapp.strategy`` are public.
What is here may move with any release of Flower, so ``pyproject.toml`` bounds its version.
"""

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy.multikrum import compute_distances
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["ErrorCode", "Run", "TaskIdentity", "compute_distances", "set_message_id"]


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message an id, as Flower does when it sends one."""
    message.metadata.__dict__["_message_id"] = message_id
