"""Hostile replies: a lie is refused by name, and its ledger is never below an honest one."""

import copy
import csv
import dataclasses
import json
import math
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlab import Federation, RunFailed
from fedlab.core.plain_text import FORMULA
from fedlab.results.folder import RunFolder
from tests.federations import Tampered, small

EXAMPLES = int(os.environ.get("FEDLAB_FUZZ", "15"))
"""Number of hostile replies; set FEDLAB_FUZZ for more."""

TINY = {
    "data": {"train": 40, "test": 20, "clients": 4},
    "model": {"name": "mlp", "width": 4},
    "training": {"batch_size": 4},
}
PRIVATE = {**TINY, "defenses": [{"name": "dp-sgd"}]}
LIAR = 1


def history_of(reply):
    return json.loads(reply.content["declared"]["history"])


def declare(reply, history):
    text = history if isinstance(history, str) else json.dumps(history)
    reply.content["declared"]["history"] = text


def federation(change, *, rounds=2, first=1, last=9, **tables):
    """A federation in which client 1 changes its replies in some rounds."""
    scenario = small(**(PRIVATE | tables), rounds=rounds)
    trains = [0]

    def tamper(client, reply):
        trains[0] += client == 0
        return change(reply) if client == LIAR and first <= trains[0] <= last else reply

    return Federation(scenario, grid=Tampered(scenario, tamper))


def lie(**changed):
    def change(reply):
        entries = history_of(reply)
        entries[-1] = {k: v for k, v in (entries[-1] | changed).items() if v is not None}
        declare(reply, entries)
        return reply

    return change


def retell(reply):
    entries = history_of(reply)
    entries[0]["noise_multiplier"] = 2.0
    declare(reply, entries)
    return reply


def many(reply):
    (entry,) = history_of(reply)
    declare(reply, [entry | {"participation": place} for place in range(5000)])
    return reply


@pytest.mark.parametrize(
    "change",
    [
        lie(noise_multiplier=1000.0),
        lie(noise_multiplier=1e-300),
        lie(noise_multiplier="inf"),
        lie(sample_rate=None),
        lie(steps=0),
        lie(steps=10**400),
        lie(round=10**30),
        lie(participation=5),
        lie(mechanism="dp-instahide", epsilon=0.0),
        lie(mechanism="none"),
        many,
        lambda reply: declare(reply, "[" * 100_000) or reply,
    ],
)
def test_a_lie_counts_as_an_open_round(change):
    liar = federation(change)
    result = liar.step()
    row = next(row for row in result.clients if row.client == LIAR)
    assert row.status == "refused"
    assert liar.ledger.total(LIAR) == math.inf > liar.ledger.total(0) > 0
    assert liar.folder.ledger().total(LIAR) == math.inf


def test_an_open_round_cannot_be_declared_private():
    private = {"mechanism": "dp-sgd", "noise_multiplier": 9.0, "sample_rate": 0.1, "steps": 1}
    liar = federation(lie(**private), defenses=[])
    (row,) = [row for row in liar.step().clients if row.status == "refused"]
    assert (row.client, liar.ledger.total(LIAR)) == (LIAR, math.inf)
    assert "dp-sgd where its task is none" in row.reason


def test_a_client_that_lied_once_is_heard_again():
    liar = federation(lie(steps=0), rounds=3, first=2, last=2)
    statuses = [liar.step().clients[LIAR].status for _ in range(3)]
    assert statuses == ["ok", "refused", "ok"]
    spent = liar.folder.spending()[LIAR]
    assert [entry.mechanism for entry in spent] == ["dp-sgd", "none", "dp-sgd"]
    assert [entry.participation for entry in spent] == [0, 1, 2]
    assert liar.ledger.total(LIAR) == math.inf


def test_an_earlier_round_told_otherwise_is_a_lie():
    liar = federation(retell, first=2)
    liar.run()
    row = liar.folder.table("clients").query(f"round == 2 and client == {LIAR}").iloc[0]
    assert (row.status, "earlier accountant history" in row.reason) == ("refused", True)
    assert liar.ledger.total(LIAR) == math.inf


def test_a_lost_reply_is_counted_when_told_later():
    scenario = small(**PRIVATE, rounds=2)
    lost = []

    class Losing(Tampered):
        def send_and_receive(self, messages, *, timeout=None):
            for reply in super().send_and_receive(messages, timeout=timeout):
                train = reply.metadata.message_type == "train"
                if train and reply.metadata.src_node_id == LIAR + 1 and not lost:
                    lost.append(reply)
                else:
                    yield reply

    honest = Federation(scenario, grid=Losing(scenario, lambda _, reply: reply))
    assert honest.step().clients[LIAR].reason == "it did not reply"
    assert LIAR not in honest.folder.spending()
    assert honest.step().clients[LIAR].status == "ok"
    assert honest.ledger.total(LIAR) == honest.ledger.total(0)


def test_a_lying_run_can_be_resumed(tmp_path):
    scenario = small(**PRIVATE, rounds=2)

    def change(client, reply):
        return lie(noise_multiplier=1e-300)(reply) if client == LIAR else reply

    Federation(scenario, out=tmp_path / "run", grid=Tampered(scenario, change)).step()
    again = Federation.resume(tmp_path / "run")
    assert again.step().clients[LIAR].status == "ok"
    assert again.ledger.total(LIAR) == math.inf


@pytest.mark.parametrize("size", [3e38, 1e20])
def test_weights_that_overflow_are_refused(size):
    def change(reply):
        arrays = {n: np.full_like(a.numpy(), size) for n, a in reply.content["payload"].items()}
        reply.content["payload"] = ArrayRecord({n: Array(value) for n, value in arrays.items()})
        return reply

    liar = federation(change)
    result = liar.step()
    assert "overflow in sums" in result.clients[LIAR].reason
    assert [row.status for row in liar.step().clients] == ["ok", "refused", "ok", "ok"]


def test_a_model_that_overflows_gets_no_checkpoint(tmp_path):
    scenario = small(**TINY, rounds=2).changed(model={"name": "resnet8", "width": 4})

    def change(client, reply):
        if client == LIAR:
            arrays = {n: np.full_like(a.numpy(), 9e14) for n, a in reply.content["payload"].items()}
            reply.content["payload"] = ArrayRecord({n: Array(v) for n, v in arrays.items()})
        return reply

    attacked = Federation(scenario, out=tmp_path / "run", grid=Tampered(scenario, change))
    with pytest.raises(RunFailed, match=f"overflow.* client {LIAR} changed it most"):
        attacked.step()
    assert Federation.resume(tmp_path / "run").step().model.round == 1


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@a", "\x1b]0;owned\x07", "a\ud800b", "x" * 10**6]
)
def test_no_text_of_a_client_harms_a_table(text):
    def decline(reply):
        entries = history_of(reply)
        for name in list(reply.content):
            del reply.content[name]
        reply.content["declared"] = ConfigRecord(
            {"kind": "declined", "status": "withheld", "reason": text}
        )
        declare(reply, entries)
        return reply

    def fail(reply):
        return Error(code=2, reason=text)

    for change in (decline, fail):
        harmless(federation(change, rounds=1).run())


def harmless(folder):
    for name in ("clients", "ledger"):
        with (folder.path / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for value in (row[key] for key in ("reason", "mechanism") if key in row):
                    assert not value.startswith(FORMULA)
                    assert value.isprintable()
                    assert len(value) < 400


NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from([1e-300, 1e300, 10**30, 10**400, 2**63 - 1, 2**63, -1e-9, "inf", "NaN", "1"]),
    st.text(max_size=8),
    st.just([1]),
    st.just({}),
)
FIELDS = st.sampled_from(
    [
        *("round", "participation", "mechanism", "clipping_norm", "noise_multiplier", "unit"),
        *("sample_rate", "steps", "epsilon", "release", "fixed_batch", "void", "adjacency"),
        *("next_clipping_norm", "sensitivity", "needs_public_labels", "more"),
    ]
)
ODD = ["", "[]", "{", "null", "[" * 50_000, "9" * 5000]
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(ODD))
KEYS = st.sampled_from(["kind", "history", "status", "reason", "x"])
VALUES = st.sampled_from([0.0, 1e-45, 1e15, 1.1e15, 1e30, 3e38, math.inf, math.nan])
DTYPES = st.sampled_from(["f2", "f4", "f8", ">f4", "i8", "c8", "M8[s]", "S3", "?"])
MUTATIONS = st.one_of(
    st.tuples(st.just("entry"), FIELDS, NUMBERS),
    st.tuples(st.just("copies"), st.integers(0, 3000), st.booleans()),
    st.tuples(st.just("text"), TEXTS, st.none()),
    st.tuples(st.just("declared"), KEYS, TEXTS),
    st.tuples(st.just("fact"), st.sampled_from(["num-examples", "steps", "x"]), NUMBERS),
    st.tuples(st.just("fill"), VALUES, st.none()),
    st.tuples(st.just("dtype"), DTYPES, st.integers(0, 3)),
    st.tuples(st.just("bytes"), st.binary(max_size=200), st.integers(0, 130)),
    st.tuples(st.just("name"), st.text(max_size=9), st.none()),
    st.tuples(st.just("drop"), st.sampled_from(["payload", "facts", "declared"]), st.none()),
    st.tuples(st.just("record"), st.sampled_from(["payload", "facts", "declared", "x"]), st.none()),
    st.tuples(st.just("error"), st.text(max_size=30), st.integers(0, 300)),
    st.tuples(st.just("node"), st.sampled_from([1, 10**9, -1, 2**63]), st.none()),
)  # fmt: skip


def mutate(reply, kind, one, other):
    """One change of a reply; an exception of Flower's own records means that it cannot travel."""
    content = reply.content
    if kind == "entry":
        return lie(**{one: other})(reply)
    if kind == "copies":
        (entry, *_) = history_of(reply)
        step = {"participation": 1} if other else {}
        rows = [entry | dict.fromkeys(step, place) for place in range(one)]
        declare(reply, rows)
    elif kind == "text":
        declare(reply, one)
    elif kind == "declared":
        content["declared"][one] = other
    elif kind == "fact":
        content["facts"] = MetricRecord({**content["facts"], one: other})
    elif kind == "fill":
        each = {n: Array(np.full_like(a.numpy(), one)) for n, a in content["payload"].items()}
        content["payload"] = ArrayRecord(each)
    elif kind == "dtype":
        each = {n: Array(a.numpy()[other:].astype(one)) for n, a in content["payload"].items()}
        content["payload"] = ArrayRecord(each)
    elif kind == "bytes":
        for array in content["payload"].values():
            array.data = array.data[:other] + one + array.data[other + len(one) :]
    elif kind == "name":
        first = next(iter(content["payload"]))
        content["payload"][one] = content["payload"].pop(first)
    elif kind == "drop":
        content.pop(one, None)
    elif kind == "record":
        content[one] = MetricRecord({"a": 1})
    elif kind == "error":
        return Error(code=other, reason=one)
    elif kind == "node":
        reply.metadata.__dict__["_src_node_id"] = one
    return reply


@pytest.fixture(scope="module")
def recorded():
    """The honest replies of one round, by client, and the epsilon of an honest client."""
    scenario = small(**PRIVATE, rounds=1)
    replies = {}

    def keep(client, reply):
        replies[client] = copy.deepcopy(reply.content)
        return reply

    grid = Tampered(scenario, keep)
    return scenario, replies, Federation(scenario, grid=grid).step().ledger[0].epsilon_total


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=EXAMPLES < 100,  # the same few cases in every run of the suite
)
@given(changes=st.lists(MUTATIONS, min_size=1, max_size=3))
def test_no_reply_breaks_or_empties_the_ledger(recorded, changes):
    scenario, replies, honest = recorded

    class Replaying(Tampered):
        def _deliver(self, message):
            client = message.metadata.dst_node_id - 1
            if message.metadata.message_type != "train":
                return super()._deliver(message)
            reply = Message(copy.deepcopy(replies[client]), reply_to=message)
            if client != LIAR:
                return reply
            for change in changes:
                try:
                    with np.errstate(all="ignore"):  # casts of the liar's own
                        reply = mutate(reply, *change)
                except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
                    continue  # such a record cannot be made
                if isinstance(reply, Error):
                    return Message(reply, reply_to=message)
            return reply

    with TemporaryDirectory() as name:
        grid = Replaying(scenario, lambda _, reply: reply)
        run = Federation(scenario, out=Path(name) / "run", grid=grid)
        started = time.process_time()  # a busy machine is no hang
        result = run.step()
        assert time.process_time() - started < 20
        row = result.clients[LIAR]
        sent = row.status == "ok" or LIAR in run.folder.spending()
        assert (run.ledger.total(LIAR) >= honest) is sent
        assert [each.status for each in result.clients if each.client != LIAR].count("ok") >= 2
        opened = RunFolder.open(run.folder.path)
        assert opened.ledger().total(LIAR) == run.ledger.total(LIAR)
        assert all(math.isfinite(value) for value in dataclasses.astuple(result.model)[1:3])
        harmless(opened)
