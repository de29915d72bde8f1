"""Every way in which a reply can be wrong is refused with its own words."""

import io
import json
import random

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedlab.protocol.abstention import Abstention
from fedlab.protocol.reply import Expected, Refused, Reply

PARAMETERS = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
BUFFERS = {"mean": torch.zeros(2)}
HISTORY = '[{"round":1,"participation":0,"mechanism":"none"}]'


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


def buffers():
    return ArrayRecord({"mean": Array(np.ones(2, np.float32))})


def read(record, *, kind="weights", buffers=None, most=None):
    return Reply.from_record(record, kind=kind, expected=Expected(PARAMETERS, buffers or {}, most))


def test_a_good_reply_is_read():
    reply = read(content())
    assert reply.abstention is None
    assert reply.payload.kind == "weights"
    assert (reply.payload.num_examples, reply.payload.steps) == (5, 2)
    assert torch.equal(reply.payload.tensors["bias"], torch.ones(2))
    assert reply.history[0].mechanism == "none"
    assert reply.buffers == {}


@pytest.mark.parametrize("value", [complex("nan"), complex("inf+1j"), 1e20j])
def test_complex_values_that_overflow_are_refused(value):
    expected = Expected({"weight": torch.zeros(2, dtype=torch.complex64)}, {}, None)
    record = content(arrays={"weight": np.array([1, value], np.complex64)})
    with pytest.raises(Refused, match="weight holds values"):
        Reply.from_record(record, kind="weights", expected=expected)


def test_a_reply_survives_its_records():
    reply = read(content(buffers=buffers()), buffers=BUFFERS)
    again = read(reply.to_record(), buffers=BUFFERS)
    assert (again.history, again.abstention) == (reply.history, None)
    assert (again.payload.num_examples, again.payload.steps) == (5, 2)
    for name, tensor in reply.payload.tensors.items():
        assert torch.equal(again.payload.tensors[name], tensor)
    assert torch.equal(again.buffers["mean"], reply.buffers["mean"])


@pytest.mark.parametrize("status", ["budget", "withheld"])
def test_an_abstention_survives_its_records(status):
    reply = Reply(history=(), abstention=Abstention(status, "in a sentence"))
    assert read(reply.to_record()) == reply
    with pytest.raises(ValueError, match="sent nothing"):
        _ = reply.sent


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [({"status": "tired"}, "no known reason: tired"), ({"more": "x"}, "more than its reason")],
)
def test_an_odd_abstention_is_refused(changed, sentence):
    record = Reply(history=(), abstention=Abstention("budget", "why")).to_record()
    record["declared"] = ConfigRecord({**record["declared"], **changed})
    with pytest.raises(Refused, match=sentence):
        read(record)


def arrays(**changed):
    good = {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}
    return {name: value for name, value in (good | changed).items() if value is not None}


def declared(**changed):
    row = {
        "round": 1,
        "participation": 0,
        "mechanism": "dp-sgd",
        "noise_multiplier": 1.0,
        "sample_rate": 0.1,
    } | changed
    return {"kind": "weights", "history": json.dumps([row])}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (content(extra=MetricRecord({"loss": 0.1})), "instead of"),
        (content(arrays(bias=np.array([np.nan, 0], np.float32))), "not finite"),
        (content(arrays(bias=np.array([np.inf, 0], np.float32))), "not finite"),
        (content(arrays(bias=np.ones(3, np.float32))), r"bias has shape \(3,\) instead of \(2,\)"),
        (content(arrays(bias=None)), "1 tensors instead of 2"),
        (content(arrays(more=np.ones(1, np.float32))), "3 tensors instead of 2"),
        (content(arrays(bias=None, other=np.ones(2, np.float32))), "does not have: other"),
        (content(arrays(bias=np.array([-np.inf, 0], np.float32))), "not finite"),
        (content(arrays(bias=np.ones(2, np.float64))), "bias is torch.float64 instead of"),
        (content(arrays(bias=np.ones(2, np.int64))), "bias is torch.int64 instead of"),
        (content(declared={"kind": "gradient", "history": "[]"}), "gradient where weights"),
        (content(declared={"kind": "weights"}), "declaration cannot be read"),
        (content(declared={"kind": "weights", "history": "{"}), "declaration cannot be read"),
        (content(declared=declared(noise_multiplier=-1.0)), "0.noise_multiplier"),
        (content(declared=declared(sample_rate="often")), "0.sample_rate"),
        (content(declared=declared(name="alice")), "0.name"),
        (content(facts={"num-examples": 0, "steps": 1}), "num-examples is 0"),
        (content(facts={"num-examples": 2.5, "steps": 1}), "num-examples is 2.5"),
        (content(facts={"num-examples": -1, "steps": 1}), "num-examples is -1"),
        (content(facts={"num-examples": 5.0, "steps": 1}), "num-examples is 5.0"),
        (content(facts={"num-examples": [5], "steps": 1}), r"num-examples is \[5\]"),
        (content(facts={"num-examples": 5, "steps": 0}), "steps is 0"),
        (content(facts={"num-examples": 5}), "its facts are not"),
        (content(facts={"num-examples": 5, "steps": 1, "loss": 0.3}), "its facts are not"),
    ],
)
def test_a_bad_reply_is_refused(record, words):
    with pytest.raises(Refused, match=words):
        read(record)


def test_too_many_claimed_examples_are_refused():
    assert read(content(), most=5).payload.num_examples == 5
    with pytest.raises(Refused, match="claims 5 examples, more than 4"):
        read(content(), most=4)


def test_buffers_are_read_only_if_expected():
    found = read(content(buffers=buffers()), buffers=BUFFERS).buffers["mean"]
    assert torch.equal(found, torch.ones(2))
    with pytest.raises(Refused, match="instead of"):
        read(content(buffers=buffers()))
    with pytest.raises(Refused, match="instead of"):
        read(content(), buffers=BUFFERS)


@pytest.mark.parametrize("record", ["payload", "facts", "declared"])
def test_a_missing_or_odd_record_is_refused(record):
    lacking = content()
    del lacking[record]
    with pytest.raises(Refused, match="instead of"):
        read(lacking)
    lacking[record] = MetricRecord() if record == "payload" else ArrayRecord()
    with pytest.raises(Refused, match=r"no ArrayRecord|its facts|its declaration"):
        read(lacking)


def test_a_declaration_with_more_keys_is_refused():
    talkative = {"kind": "weights", "history": HISTORY, "loss": 0.3}
    with pytest.raises(Refused, match="declar"):
        read(content(declared=talkative))


def npy(value):
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez(file, np.ones(2, np.float32))
    return file.getvalue()


def claiming(shape):
    """A file of two numbers whose header claims another shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)


def read_bytes(data):
    record = content()
    record["payload"]["bias"] = Array("float32", (2,), "numpy.ndarray", data)
    return read(record)


def test_an_array_is_read_from_its_bytes():
    assert read_bytes(npy(np.ones(2, np.float32))).payload.num_examples == 5
    assert read_bytes(claiming((2,))).payload.num_examples == 5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        npy(np.ones(2, np.float32))[:-1],
        npy(np.array([None, None])),
        npz(),
        claiming((10**14,)),
        claiming("(2,")[:-8],
    ],
    ids=["empty", "text", "torn", "objects", "archive", "364 TiB", "header"],
)
def test_bytes_without_an_array_are_refused(data):
    with pytest.raises(Refused, match="bias cannot be read"):
        read_bytes(data)


def test_damaged_bytes_never_give_a_bad_array():
    sound, chance = npy(np.ones(2, np.float32)), random.Random(0)
    for _ in range(500):
        data = bytearray(sound)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            bias = read_bytes(bytes(data)).payload.tensors["bias"]
        except Refused:
            continue
        assert bias.shape == (2,)
        assert torch.isfinite(bias).all()
