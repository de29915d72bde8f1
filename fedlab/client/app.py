"""The Flower ClientApp: reads its task from the message, works, and replies.

State lives in ``Context.state``, so that Flower keeps it between rounds on every engine.
"""

from collections.abc import Callable
from operator import is_

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from fedlab.client.client_round import ClientUpdate, run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.privacy.release import History, from_json, to_json
from fedlab.protocol.reply import (
    BUFFERS,
    DECLARED,
    DECLINE,
    FACTS,
    HISTORY,
    KIND,
    NUM_EXAMPLES,
    PAYLOAD,
    REASON,
    STATUS,
    STEPS,
)
from fedlab.protocol.task import ClientTask

PARTITION = "partition-id"


def client_app(federated_data_of: Callable[[Context], FederatedData]) -> ClientApp:
    """A ClientApp whose clients work at a federated.

    Args:
        federated_data_of: Gives the images and network of this process; called in every message, so
            it should remember what it made.

    Returns:
        The app, for any Flower engine.
    """
    app, received = ClientApp(), _GlobalState()

    @app.query()
    def introduce(message: Message, context: Context) -> Message:
        """Tell the server which partition this node holds; node ids are random."""
        identity = MetricRecord({PARTITION: int(context.node_config[PARTITION])})
        return Message(RecordDict({FACTS: identity}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        federated = federated_data_of(context)
        task = ClientTask.model_validate_json(str(message.content.config_records["config"]["plan"]))
        state = received.on(federated.device, message.content.array_records["arrays"])
        done = run_client_round(task, federated, state, _history(context))
        context.state[HISTORY] = ConfigRecord({HISTORY: to_json(done.history)})
        return Message(_reply(done), reply_to=message)

    return app


class _GlobalState:
    """The global state as tensors, converted once for all clients of a round in this process."""

    def __init__(self) -> None:
        self._bytes: list[bytes] = []
        self._tensors: dict[str, Tensor] = {}

    def on(self, device: torch.device, arrays: ArrayRecord) -> dict[str, Tensor]:
        """The arrays of a message on a device; only to be read."""
        content = [array.data for array in arrays.values()]
        known = len(content) == len(self._bytes) and all(map(is_, content, self._bytes))
        if not known:
            self._tensors = {n: t.to(device) for n, t in arrays.to_torch_state_dict().items()}
            self._bytes = content
        return self._tensors


def _history(context: Context) -> History:
    kept = context.state.config_records.get(HISTORY)
    return from_json(str(kept[HISTORY])) if kept is not None else ()


def _reply(done: ClientUpdate) -> RecordDict:
    declared = {HISTORY: to_json(done.history)}
    if done.declined is not None:
        why = {KIND: DECLINE, STATUS: done.declined.status, REASON: done.declined.reason}
        return RecordDict({DECLARED: ConfigRecord({**declared, **why})})
    payload = done.sent
    content = RecordDict(
        {
            PAYLOAD: ArrayRecord({k: v.cpu() for k, v in payload.tensors.items()}),
            FACTS: MetricRecord({NUM_EXAMPLES: payload.num_examples, STEPS: payload.steps}),
            DECLARED: ConfigRecord({**declared, KIND: payload.kind}),
        }
    )
    if done.buffers:
        content[BUFFERS] = ArrayRecord({k: v.cpu() for k, v in done.buffers.items()})
    return content
