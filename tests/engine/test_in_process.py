"""The in-process grid keeps clients apart, carries failures, and disturbs nobody's randomness."""

import random

import numpy as np
import pytest
import torch
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from fedlab.engine.in_process import InProcessGrid


@pytest.fixture
def grid():
    app = ClientApp()

    @app.train()
    def train(message, context):
        seen = context.state.config_records.get("seen", ConfigRecord({"times": 0}))
        times = int(seen["times"]) + 1
        context.state["seen"] = ConfigRecord({"times": times})
        if "fail" in message.content.config_records:
            raise RuntimeError("out of memory")
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        if "arrays" in message.content.array_records:
            message.content["arrays"]["w"] = Array(np.zeros(3, np.float32))
        facts = {"times": times, "node": context.node_id, "partition": 0}
        facts["partition"] = int(context.node_config["partition-id"])
        return Message(RecordDict({"facts": MetricRecord(facts)}), reply_to=message)

    return InProcessGrid(app, 100)


def ask(grid, node, **records):
    return Message(RecordDict(records), node, MessageType.TRAIN)


def test_every_client_keeps_its_own_state(grid):
    assert list(grid.get_node_ids()) == list(range(1, 101))
    replies = list(grid.send_and_receive([ask(grid, node) for node in (3, 7, 3)]))
    facts = [dict(reply.content["facts"]) for reply in replies]
    assert [(f["node"], f["partition"], f["times"]) for f in facts] == [
        (3, 2, 1),
        (7, 6, 1),
        (3, 2, 2),
    ]
    assert [reply.metadata.src_node_id for reply in replies] == [3, 7, 3]


def test_contexts_are_made_only_for_called_clients(grid):
    list(grid.send_and_receive([ask(grid, 5)]))
    assert len(grid._contexts) == 1


def test_a_client_that_raises_keeps_its_old_state(grid):
    first, second = grid.send_and_receive([ask(grid, 1, fail=ConfigRecord()), ask(grid, 1)])
    assert first.has_error()
    assert first.error.reason == "RuntimeError: out of memory"
    assert second.content["facts"]["times"] == 1


def test_a_client_cannot_change_the_servers_arrays(grid):
    arrays = ArrayRecord({"w": Array(np.ones(3, np.float32))})
    list(grid.send_and_receive([ask(grid, 1, arrays=arrays)]))
    assert arrays["w"].numpy().tolist() == [1, 1, 1]


def test_a_client_cannot_seed_the_server(grid):
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    expected = random.random(), np.random.rand(), float(torch.rand(1))
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    list(grid.send_and_receive([ask(grid, 1)]))
    assert (random.random(), np.random.rand(), float(torch.rand(1))) == expected


def test_a_failing_client_cannot_seed_the_server():
    app = ClientApp()

    @app.train()
    def train(message, context):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        raise RuntimeError("out of memory")

    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    expected = random.random(), np.random.rand(), float(torch.rand(1))
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    one = InProcessGrid(app, 1)
    (reply,) = one.send_and_receive([ask(one, 1)])
    assert reply.has_error()
    assert (random.random(), np.random.rand(), float(torch.rand(1))) == expected


def test_replies_are_returned_only_once(grid):
    ids = list(grid.push_messages([ask(grid, 1), ask(grid, 2), ask(grid, 3)]))
    assert len(set(ids)) == 3
    assert [reply.metadata.src_node_id for reply in grid.pull_messages(ids[1:2])] == [2]
    assert [reply.metadata.src_node_id for reply in grid.pull_messages(ids)] == [1, 3]
    assert list(grid.pull_messages(ids)) == []


def test_a_shared_message_reaches_each_client():
    app = ClientApp()

    @app.train()
    def train(message, context):
        config = message.content["config"]
        config["seen"] = [*config.get("seen", []), context.node_id]
        return Message(RecordDict({"config": config}), reply_to=message)

    one = InProcessGrid(app, 3)
    shared = RecordDict({"config": ConfigRecord()})
    questions = [Message(shared, node, MessageType.TRAIN) for node in (1, 2, 3)]
    replies = list(one.send_and_receive(questions))
    assert [reply.content["config"]["seen"] for reply in replies] == [[1], [2], [3]]
    assert dict(shared["config"]) == {}
