"""Nodes that die, hang, lie about their partition or come late."""

import time

import pytest
from flwr.app import Error, Message, MetricRecord

from fedlab import Federation, RunFailed
from fedlab.protocol.planning import sample_cohort
from fedlab.server import transport
from tests.federations import Tampered, small

TINY = {
    "data": {"train": 40, "test": 20, "clients": 4},
    "model": {"name": "mlp", "width": 4},
    "training": {"batch_size": 4},
}
VICTIM = 1


def unchanged(_client, reply):
    return reply


class Dying(Tampered):
    """A grid whose node 2 is gone from round 2 on."""

    there = 4

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if node != VICTIM + 1 or self.there == 4]


def statuses(result):
    return [row.status for row in result.clients]


@pytest.mark.parametrize("node", [1, 10**9])
def test_the_superlinks_answer_for_a_dead_node_is_its(node):
    scenario = small(**TINY, rounds=2)

    def gone(client, reply):
        return Error(code=3, reason="node unavailable") if client == VICTIM else reply

    class SuperLink(Tampered):
        def send_and_receive(self, messages, *, timeout=None):
            for reply in super().send_and_receive(messages, timeout=timeout):
                if reply.has_error():
                    reply.metadata.__dict__["_src_node_id"] = node
                yield reply

    run = Federation(scenario, grid=SuperLink(scenario, gone))
    for _ in range(2):
        result = run.step()
        assert statuses(result) == ["ok", "refused", "ok", "ok"]
        assert "node unavailable" in result.clients[VICTIM].reason


def test_later_rounds_go_on_with_the_nodes_left():
    scenario = small(**TINY, rounds=3)
    grid = Dying(scenario, unchanged)
    run = Federation(scenario, grid=grid)
    run.step()
    grid.there = 3
    result = run.step()
    assert result.clients[VICTIM].reason == "its node is not there"
    assert statuses(result) == ["ok", "refused", "ok", "ok"]
    grid.there = 4
    assert statuses(run.step()) == ["ok"] * 4


def test_a_cohort_that_is_gone_is_one_sentence():
    scenario = small(**TINY, rounds=2).changed(server={"cohort": 1})
    grid = Tampered(scenario, unchanged)
    run = Federation(scenario, grid=grid)
    run.step()
    (sampled,) = sample_cohort(scenario, 2)
    grid.get_node_ids = lambda: [node for node in range(1, 5) if node != sampled + 1]
    with pytest.raises(RunFailed, match=r"all clients failed .* its node is not there"):
        run.step()


@pytest.mark.parametrize(("fewest", "goes_on"), [(None, False), (3, True), (4, False)])
def test_a_run_starts_with_as_many_as_suffice(monkeypatch, fewest, goes_on):
    monkeypatch.setattr(transport, "PATIENCE", 0.3)
    monkeypatch.setattr(transport, "LATECOMERS", 0.1)
    scenario = small(**TINY, rounds=1).changed(server={"min_clients": fewest})
    grid = Dying(scenario, unchanged)
    grid.there = 3
    run = Federation(scenario, grid=grid)
    if goes_on:
        assert statuses(run.step()) == ["ok", "refused", "ok", "ok"]
    else:
        with pytest.raises(RunFailed, match=r"only 3 of 4 clients appeared, .* start client 1, or"):
            run.step()


def test_the_server_says_for_whom_it_waits(monkeypatch, caplog):
    monkeypatch.setattr(transport, "PATIENCE", 1.0)
    monkeypatch.setattr(transport, "NEWS", 0.2)
    scenario = small(**TINY, rounds=1).changed(data=TINY["data"] | {"clients": 20})
    grid = Tampered(scenario, unchanged)
    grid.get_node_ids = lambda: range(1, 4)
    with pytest.raises(RunFailed, match="only 3 of 20 clients appeared"):
        Federation(scenario, grid=grid).step()
    said = [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()]
    assert 1 <= len(said) <= 3  # after 0.2, 0.4 and 0.8 seconds
    assert said[0].startswith("waiting for clients 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 7 more, for")


@pytest.mark.parametrize("answer", [None, -1, 4, 0, 2.5])
def test_a_node_that_lies_about_its_partition_is_left_out(monkeypatch, answer):
    monkeypatch.setattr(transport, "PATIENCE", 0.2)
    monkeypatch.setattr(transport, "LATECOMERS", 0.1)
    scenario = small(**TINY, rounds=1).changed(server={"min_clients": 3})

    class Lying(Tampered):
        def _deliver(self, message):
            reply = super()._deliver(message)
            query = message.metadata.message_type == "query"
            if query and message.metadata.dst_node_id == VICTIM + 1:
                if answer is None:
                    return Message(Error(code=2, reason="no"), reply_to=message)
                reply.content["facts"] = MetricRecord({"partition-id": answer})
            return reply

    assert statuses(Federation(scenario, grid=Lying(scenario, unchanged)).step()).count("ok") == 3


@pytest.mark.parametrize("how", ["exit", "interrupt", "sleep", "spin"])
def test_a_client_that_exits_or_hangs_fails_alone(how):
    scenario = small(**TINY, rounds=2).changed(server={"reply_timeout": 0.2})
    grid = Tampered(scenario, unchanged)
    app = grid._app

    def hostile(message, context):
        if message.metadata.dst_node_id == VICTIM + 1 and message.metadata.message_type == "train":
            if how == "exit":
                raise SystemExit(3)
            if how == "interrupt":
                raise KeyboardInterrupt
            while how == "spin":
                pass
            time.sleep(60)
        return app(message, context)

    grid._app = hostile
    run = Federation(scenario, grid=grid)
    started = time.monotonic()
    for _ in range(2):
        assert statuses(run.step()) == ["ok", "refused", "ok", "ok"]
    assert time.monotonic() - started < 20
