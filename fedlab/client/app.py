"""The Flower ClientApp: it reads the task from a message, runs the client's round, and replies.

The client's privacy history is kept in ``Context.state``, which every Flower engine preserves
between rounds.
"""

import random
from collections.abc import Callable
from operator import is_

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from attacks.payload import Payload
from fedlab.client.client_round import ClientUpdate, run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.client.own_images import IMAGES, OwnImages, own_images
from fedlab.core.errors import BadInput
from fedlab.core.foreign_code import call_foreign
from fedlab.core.network_errors import naming_network
from fedlab.core.seeds import derive, seed_torch
from fedlab.privacy.history_text import from_json, to_json
from fedlab.privacy.release import History
from fedlab.protocol.arrays import read_record
from fedlab.protocol.reply import FACTS, HISTORY, Reply
from fedlab.protocol.task import ClientTask
from fedlab.protocol.terms import REFUSAL, TERMS, Terms

PARTITION = "partition-id"


def client_app(
    federated_data_of: Callable[[Context], FederatedData],
    trained: Callable[[int], Payload | None] = lambda _: None,
) -> ClientApp:
    """Make the ClientApp of a federation, for any Flower engine.

    Args:
        federated_data_of: Returns the images and the network of this process. It is called for
            every message, so it should cache its result.
        trained: Returns the new weights of a client that has trained together with others, by
            partition id; ``None`` for one that trains alone.
    """
    app, global_state = ClientApp(), _GlobalState()

    @app.query()
    def introduce(message: Message, context: Context) -> Message:
        """Reply with the partition id of this node, because Flower's node ids are random.

        In a deployment the client checks the server's terms first. It then adds its number of
        images, or the sentence by which it refuses to take part.
        """
        content = RecordDict()
        identity = MetricRecord({PARTITION: int(context.node_config[PARTITION])})
        try:
            if (own := _own_images(message, context)) is not None:
                identity["images"] = len(own.data.train_labels)
        except BadInput as error:
            content[REFUSAL] = ConfigRecord({REFUSAL: str(error)})
        content[FACTS] = identity
        return Message(content, reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        task = read_task(message)

        def work() -> ClientUpdate:
            own = _own_images(message, context)
            if own is not None:
                own.refuse_task(task)
            federated = federated_data_of(context) if own is None else own.federated
            state = global_state.on(federated.device, message.content.array_records["arrays"])
            _seed_globals(derive(federated.seed, "own draws", task.round, task.client))
            with naming_network(federated.network):
                before, done = _history(context), trained(task.client)
                return run_client_round(task, federated, state, before, trained=done)

        update = call_foreign(work, seconds=task.reply_timeout)
        context.state[HISTORY] = ConfigRecord({HISTORY: to_json(update.history)})
        reply = Reply(update.history, update.payload, update.buffers, update.abstention)
        return Message(reply.to_record(), reply_to=message)

    return app


def read_task(message: Message) -> ClientTask:
    """Read the task in a message to a client."""
    return ClientTask.read(str(message.content.config_records["config"]["plan"]))


def tensors_on(device: torch.device, arrays: ArrayRecord) -> dict[str, Tensor]:
    """Read the arrays of a message as tensors on a device; do not change them in place."""
    # Copied, so that no client's code can change the server's own tensors.
    return {name: t.to(device, copy=True) for name, t in read_record(arrays).items()}


def _seed_globals(seed: int) -> None:
    """Seed the generators from which foreign code may draw, so that no process differs."""
    seed_torch(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _own_images(message: Message, context: Context) -> OwnImages | None:
    """The client's own images in a deployment, if it agrees to the server's terms.

    Returns:
        ``None`` in a simulation, where neither the server sends terms nor the client has images.

    Raises:
        BadInput: If only one of the two is so, or the client does not agree.
    """
    terms = message.content.config_records.get(TERMS)
    if terms is None and IMAGES not in context.node_config:
        return None
    if terms is None:
        raise BadInput(
            "this client has images of its own, but the server runs a simulation: set "
            'engine.name = "deployment" in the scenario'
        )
    own = own_images(context.node_config, context.run_config)
    own.refuse(Terms.model_validate_json(str(terms[TERMS])))
    return own


class _GlobalState:
    """The global state as tensors, converted once for all clients of a round in this process."""

    def __init__(self) -> None:
        self._record: list[Array] = []
        self._tensors: dict[str, Tensor] = {}

    def on(self, device: torch.device, arrays: ArrayRecord) -> dict[str, Tensor]:
        """Return the arrays of a message as tensors on a device; do not change them in place."""
        content = list(arrays.values())
        known = len(content) == len(self._record) and all(map(is_, content, self._record))
        if not known:
            self._tensors, self._record = tensors_on(device, arrays), content
        return self._tensors


def _history(context: Context) -> History:
    stored = context.state.config_records.get(HISTORY)
    return from_json(str(stored[HISTORY])) if stored is not None else ()
