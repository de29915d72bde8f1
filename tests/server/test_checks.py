"""Every way in which a reply can be wrong is refused with its own words."""

import json

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedlab.engine.in_process import InProcessGrid
from fedlab.server.checks import Expected, Refused, read_reply

PARAMETERS = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
HISTORY = '[{"round":1,"mechanism":"none"}]'


def content(arrays=None, facts=None, declared=None, **more):
    return RecordDict(
        {
            "payload": ArrayRecord(
                {
                    name: Array(value)
                    for name, value in (
                        {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}
                        if arrays is None
                        else arrays
                    ).items()
                }
            ),
            "facts": MetricRecord({"num-examples": 5, "steps": 2} if facts is None else facts),
            "declared": ConfigRecord(
                {"kind": "weights", "history": HISTORY} if declared is None else declared
            ),
            **more,
        }
    )


def read(record, *, kind="weights", buffers=None, most=None):
    InProcessGrid(None, 1)
    question = Message(RecordDict(), 1, "train")
    message = Message(record, reply_to=question)
    return read_reply(
        message, client=3, kind=kind, expected=Expected(PARAMETERS, buffers or {}, most)
    )


def test_a_good_reply_is_taken_apart():
    reply = read(content())
    assert reply.client == 3
    assert reply.payload.kind == "weights"
    assert (reply.payload.num_examples, reply.payload.steps) == (5, 2)
    assert torch.equal(reply.payload.tensors["bias"], torch.ones(2))
    assert reply.history[0].mechanism == "none"
    assert reply.buffers == {}


def arrays(**changed):
    good = {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}
    return {name: value for name, value in (good | changed).items() if value is not None}


def declared(**changed):
    row = {"round": 1, "mechanism": "dp-sgd", "noise_multiplier": 1.0, "sample_rate": 0.1} | changed
    return {"kind": "weights", "history": json.dumps([row])}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Error(code=0, reason="ValueError: boom"), "the client failed: ValueError: boom"),
        (content(extra=MetricRecord({"loss": 0.1})), "instead of"),
        (content(arrays(bias=np.array([np.nan, 0], np.float32))), "not finite"),
        (content(arrays(bias=np.array([np.inf, 0], np.float32))), "not finite"),
        (content(arrays(bias=np.ones(3, np.float32))), r"bias has shape \(3,\) instead of \(2,\)"),
        (content(arrays(bias=None)), "1 tensors instead of 2"),
        (content(arrays(more=np.ones(1, np.float32))), "3 tensors instead of 2"),
        (content(arrays(bias=None, other=np.ones(2, np.float32))), "does not have: other"),
        (content(arrays(bias=np.ones(2, np.float64))), "bias"),
        (content(declared={"kind": "gradient", "history": "[]"}), "gradient where weights"),
        (content(declared={"kind": "weights"}), "declaration cannot be read"),
        (content(declared={"kind": "weights", "history": "{"}), "declaration cannot be read"),
        (content(declared=declared(noise_multiplier=-1.0)), "0.noise_multiplier"),
        (content(declared=declared(sample_rate="often")), "0.sample_rate"),
        (content(declared=declared(name="alice")), "0.name"),
        (content(facts={"num-examples": 0, "steps": 1}), "num-examples is 0"),
        (content(facts={"num-examples": 2.5, "steps": 1}), "num-examples is 2.5"),
        (content(facts={"num-examples": 5}), "its facts are not"),
        (content(facts={"num-examples": 5, "steps": 1, "loss": 0.3}), "its facts are not"),
    ],
)
def test_a_bad_reply_is_refused(record, words):
    with pytest.raises(Refused, match=words):
        read(record)


def test_more_examples_than_are_believed():
    assert read(content(), most=5).payload.num_examples == 5
    with pytest.raises(Refused, match="claims 5 examples, more than 4"):
        read(content(), most=4)


def test_buffers_travel_only_if_they_are_asked_for():
    buffers = {"mean": torch.zeros(2)}
    sent = ArrayRecord({"mean": Array(np.ones(2, np.float32))})
    assert torch.equal(read(content(buffers=sent), buffers=buffers).buffers["mean"], torch.ones(2))
    with pytest.raises(Refused, match="instead of"):
        read(content(buffers=sent))
    with pytest.raises(Refused, match="instead of"):
        read(content(), buffers=buffers)
