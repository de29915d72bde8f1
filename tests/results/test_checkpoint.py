"""Checkpoints keep values, types and shapes, and refuse damaged files."""

import numpy as np
import pytest
import torch

from fedlab import BadInput
from fedlab.results.checkpoint import Checkpoint


def path_in(folder):
    (folder / "checkpoints").mkdir()
    return folder / "checkpoints" / "last.safetensors"


def test_values_keep_their_types(tmp_path):
    state = {"z.weight": torch.randn(3, 2).T, "a": torch.tensor(5), "b": torch.randn(2)}
    memory = {
        "momentum/list/000000/0": np.linspace(0, 1, 6).reshape(2, 3).T,
        "momentum/list/000001/1": np.ones(2, np.float32),
    }
    path = path_in(tmp_path)
    Checkpoint(7, state, memory).save(path)
    again = Checkpoint.load(path)
    assert again.round == 7
    assert again.state.keys() == state.keys()
    assert all(torch.equal(again.state[name], value) for name, value in state.items())
    assert all(again.state[name].dtype == value.dtype for name, value in state.items())
    assert again.memory.keys() == memory.keys()
    for name, value in memory.items():
        assert again.memory[name].dtype == value.dtype
        np.testing.assert_array_equal(again.memory[name], value)


def test_scalar_momentum_keeps_its_shape(tmp_path):
    path = path_in(tmp_path)
    Checkpoint(1, {}, {"momentum/dict/000000/scale": np.array(2.0)}).save(path)
    assert Checkpoint.load(path).memory["momentum/dict/000000/scale"].shape == ()


def test_earlier_checkpoint_is_replaced(tmp_path):
    path = path_in(tmp_path)
    for number in (1, 2):
        Checkpoint(number, {"w": torch.full((2,), float(number))}, {}).save(path)
    assert Checkpoint.load(path).round == 2
    assert [file.name for file in path.parent.iterdir()] == ["last.safetensors"]


def test_missing_or_damaged_checkpoint_is_refused(tmp_path):
    path = path_in(tmp_path)
    with pytest.raises(BadInput, match="no round of it ended"):
        Checkpoint.load(path)
    Checkpoint(1, {"w": torch.zeros(2)}, {}).save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-3], whole[:40], whole.replace(b'"round":"1"', b'"rounds":""')):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="cannot be read"):
            Checkpoint.load(path)
