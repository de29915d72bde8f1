"""Tensors in messages: equal however they travel, and read from bytes that may contain anything."""

import copy
import pickle

import numpy as np
import pytest
import torch
from flwr.app import Array

from fedlab.protocol.arrays import TensorArray, arrays_of, read_record, record_of, tensor_of

TENSOR = torch.arange(6, dtype=torch.float32).reshape(2, 3)


def written(array):
    """An array as NumPy writes it, in a Flower Array."""
    return Array(np.asarray(array))


def test_the_bytes_are_those_of_flower():
    array = TensorArray(TENSOR)
    assert array.data == written(TENSOR.numpy()).data
    assert (array.dtype, array.shape, array.stype) == ("float32", (2, 3), "numpy.ndarray")


def test_flower_reads_one_that_it_has_sent_as_its_own():
    array = TensorArray(TENSOR)
    arrived = Array.inflate(array.deflate(), array.children)
    assert type(arrived) is Array
    assert torch.equal(tensor_of(arrived), TENSOR)


def test_within_a_process_nothing_is_copied():
    record = record_of({"weight": TENSOR})
    assert read_record(copy.deepcopy(record))["weight"] is record["weight"].tensor
    assert record["weight"].tensor.data_ptr() == TENSOR.data_ptr()


def test_a_rule_gets_a_copy_that_it_may_change():
    array = TensorArray(TENSOR.clone())
    array.numpy()[:] = 7
    assert torch.equal(array.tensor, TENSOR)


def test_a_pickle_holds_the_same():
    again = pickle.loads(pickle.dumps(TensorArray(TENSOR)))
    assert torch.equal(again.tensor, TENSOR)
    assert again.data == TensorArray(TENSOR).data


def test_a_pickle_in_memory_that_is_shared_is_copied():
    parts = []
    content = pickle.dumps(TensorArray(TENSOR), protocol=5, buffer_callback=parts.append)
    again = pickle.loads(content, buffers=[bytes(part) for part in parts]).tensor
    assert torch.equal(again, TENSOR)
    again.zero_()  # what is read-only would give a warning, and others would see the change


@pytest.mark.parametrize(
    "tensor",
    [TENSOR.T, torch.tensor(3.0), torch.zeros(0, 2), torch.arange(4), TENSOR.double()[:, ::2]],
    ids=["transposed", "scalar", "empty", "whole numbers", "strided"],
)
def test_any_tensor_is_read_as_it_was_written(tensor):
    (array,) = arrays_of({"one": tensor}).values()
    for each in (array, written(array.numpy())):
        found = tensor_of(each)
        assert found.dtype == tensor.dtype
        assert found.is_contiguous()
        assert torch.equal(found, tensor)


def test_columns_first_is_read_in_the_order_of_rows():
    assert torch.equal(tensor_of(written(np.asfortranarray(TENSOR.numpy()))), TENSOR)


def forged(data):
    """An array of bytes that nobody checked."""
    return Array("float64", (2,), "numpy.ndarray", data)


TWO = written(np.zeros(2)).data


@pytest.mark.parametrize(
    "array",
    [
        written(np.zeros(10_000)),
        Array("float64", (2,), "pickle", TWO),
        forged(b""),
        forged(b"\x93NUMPY\x01\x00\xff\xff{"),
        forged(TWO[:-1]),
        forged(TWO.replace(b"(2,), }    ", b"(-2,), }   ")),
        forged(TWO.replace(b"(2,), }      ", b"(9000000,), }")),
        forged(TWO.replace(b"<f8", b"|O8")),
    ],
    ids=["long", "format", "nothing", "header", "cut", "negative", "claims", "objects"],
)
def test_bytes_that_are_no_array_are_refused(array):
    with pytest.raises(ValueError, match=r"\w"):
        tensor_of(array, most=16)
