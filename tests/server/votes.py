"""Votes of a round from a matrix of changes, for tests of aggregation rules."""

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedlab.engine.in_process import InProcessGrid
from fedlab.server.aggregation import Aggregation, WeightedUpdate

STATE = {
    "weight": torch.tensor([[1.0, -2.0, 0.5], [0.5, 3.0, -1.0]]),
    "bias": torch.tensor([0.25, -0.75]),
}
SIZE = 8
"""Numbers in ``STATE``."""


def message(node, state=STATE):
    content = RecordDict(
        {
            "arrays": ArrayRecord({n: Array(t.numpy()) for n, t in state.items()}),
            "config": ConfigRecord(),
            "metrics": MetricRecord({"num-examples": 1}),
        }
    )
    return Message(content, reply_to=Message(RecordDict(), node, "train"))


def model(change, state=STATE):
    """The state moved by a flat change, in float32."""
    parts = torch.as_tensor(np.asarray(change)).split([value.numel() for value in state.values()])
    return {
        name: (value.double() + part.reshape(value.shape)).float()
        for (name, value), part in zip(state.items(), parts, strict=True)
    }


def flat(tensors):
    return torch.cat([value.flatten() for value in tensors.values()]).double().numpy()


def changes_of(models, state=STATE):
    """What arrived of changes after they were added to the state in float32."""
    return np.stack([flat(each) for each in models]) - flat(state)


def vote(
    models,
    name,
    options=None,
    *,
    counts=None,
    root=None,
    state=STATE,
    aggregation=None,
    clients=None,
    round=1,
):
    """The outcome of a round in which the clients send these models."""
    grid = InProcessGrid(None, len(models))
    aggregation = aggregation or Aggregation(name, options or {})
    aggregation.configure(round, state, grid, range(1, 1 + len(models)))
    counts = counts or [1] * len(models)
    votes = [
        WeightedUpdate(message(client + 1, state), count, each, client)
        for each, count, client in zip(models, counts, clients or range(len(models)), strict=True)
    ]
    return aggregation.aggregate(round, votes, root=root)
