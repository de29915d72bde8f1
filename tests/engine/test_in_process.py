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


def test_partitions_are_numbered_like_nodes_and_state_is_each_clients_own(grid):
    assert list(grid.get_node_ids()) == list(range(1, 101))
    replies = list(grid.send_and_receive([ask(grid, node) for node in (3, 7, 3)]))
    facts = [dict(reply.content["facts"]) for reply in replies]
    assert [(f["node"], f["partition"], f["times"]) for f in facts] == [
        (3, 2, 1),
        (7, 6, 1),
        (3, 2, 2),
    ]
    assert [reply.metadata.src_node_id for reply in replies] == [3, 7, 3]


def test_contexts_are_made_only_for_clients_that_are_called(grid):
    list(grid.send_and_receive([ask(grid, 5)]))
    assert len(grid._contexts) == 1


def test_a_client_that_raises_is_an_error_reply_and_keeps_its_old_state(grid):
    first, second = grid.send_and_receive([ask(grid, 1, fail=ConfigRecord()), ask(grid, 1)])
    assert first.has_error()
    assert first.error.reason == "RuntimeError: out of memory"
    assert second.content["facts"]["times"] == 1


def test_a_client_cannot_reach_into_the_servers_arrays(grid):
    arrays = ArrayRecord({"w": Array(np.ones(3, np.float32))})
    list(grid.send_and_receive([ask(grid, 1, arrays=arrays)]))
    assert arrays["w"].numpy().tolist() == [1, 1, 1]


def test_a_client_that_seeds_the_global_generators_is_not_noticed(grid):
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    expected = random.random(), np.random.rand(), float(torch.rand(1))
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    list(grid.send_and_receive([ask(grid, 1)]))
    assert (random.random(), np.random.rand(), float(torch.rand(1))) == expected


def test_a_client_that_seeds_and_then_fails_is_not_noticed_either():
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


def test_replies_are_handed_over_once_and_only_those_asked_for(grid):
    ids = list(grid.push_messages([ask(grid, 1), ask(grid, 2), ask(grid, 3)]))
    assert len(set(ids)) == 3
    assert [reply.metadata.src_node_id for reply in grid.pull_messages(ids[1:2])] == [2]
    assert [reply.metadata.src_node_id for reply in grid.pull_messages(ids)] == [1, 3]
    assert list(grid.pull_messages(ids)) == []


def test_a_message_may_be_sent_to_many_and_each_gets_its_own():
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
