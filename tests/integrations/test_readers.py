"""Weights are read from every format of the table, and nothing in a file is run."""

import pickle

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from safetensors.torch import save_file

from fedlab import BadInput
from fedlab.integrations.external_update import match_names
from fedlab.integrations.readers import FORMATS, read_weights
from tests.integrations.plain_app import Net

STATE = Net(norm=True).state_dict()
NUMPY = {name: tensor.numpy() for name, tensor in STATE.items()}


def write(path):
    """Write the weights as programs that know the format do."""
    if path.suffix == ".safetensors":
        save_file(dict(STATE), path)
    elif path.suffix == ".npz":
        np.savez(path, **NUMPY)
    else:
        torch.save(STATE, path)


def assert_same(found):
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("ending", [each for each in FORMATS if each != ".npy"])
def test_weights_of_every_format(tmp_path, ending):
    write(path := tmp_path / f"weights{ending}")
    found, name = read_weights(path, "before")
    assert_same(found)
    assert name == str(path)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_weights_within_a_checkpoint(tmp_path, key):
    # NVFlare's persistor adds train_conf and meta_props, training scripts an epoch and a loss.
    beside = {"epoch": 3, "train_conf": {"train": {"model": "Net"}}, "meta_props": {"round": 1}}
    torch.save({**beside, key: STATE}, tmp_path / "FL_global_model.pt")
    assert_same(read_weights(tmp_path / "FL_global_model.pt", "")[0])


def test_list_of_arrays_as_flowers_guide_saves_it(tmp_path):
    np.savez(tmp_path / "model.npz", *ArrayRecord(STATE).to_numpy_ndarrays())
    assert_same(match_names(Net(norm=True), read_weights(tmp_path / "model.npz", "")[0]))


@pytest.mark.parametrize("source", [STATE, NUMPY, ArrayRecord(STATE)])
def test_weights_in_memory(source):
    found, name = read_weights(source, "before")
    assert_same(found)
    assert name == "before"


def test_list_of_arrays_in_memory():
    record = ArrayRecord([value.numpy() for value in STATE.values()])
    assert_same(match_names(Net(norm=True), read_weights(record, "before")[0]))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, kind):
    torch.save({"a": torch.ones(2, dtype=kind), "n": torch.tensor(3)}, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt", "")[0]
    assert (found["a"].dtype, found["n"].dtype) == (torch.float32, torch.int64)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["w.pt", "w.npz", "w.npy", "plain.pt"])
def test_nothing_in_a_file_is_run(tmp_path, name):
    evil = Runs(tmp_path / "ran")
    if name == "plain.pt":
        (tmp_path / name).write_bytes(pickle.dumps(evil))
    elif name.endswith(".pt"):
        torch.save({"w": evil}, tmp_path / name)
    elif name.endswith(".npz"):
        np.savez(tmp_path / name, w=np.array([evil], dtype=object))
    else:
        np.save(tmp_path / name, {"w": evil}, allow_pickle=True)
    with pytest.raises(BadInput) as refused:
        read_weights(tmp_path / name, "")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("weights.h5", b"", "name a file in .safetensors, .pt, .pth, .ckpt, .bin, .npz"),
        ("weights", b"", "is not known by its ending"),
        ("missing.pt", None, "there is no such file"),
        ("missing.npz", None, "cannot be read as .npz"),
        ("missing.safetensors", None, "cannot be read"),
        ("text.pt", b"text", "save the weights alone, with torch.save"),
        ("text.npz", b"text", "cannot be read as .npz"),
        ("array.npy", b"", "save the weights by name with numpy.savez"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as refused:
        read_weights(tmp_path / name, "")
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.ones(2), {"model": {}}])
def test_checkpoint_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadInput, match="holds no weights"):
        read_weights(tmp_path / "w.pt", "")


def test_texts_are_no_weights(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array(["text"]))
    with pytest.raises(BadInput, match="holds more than numbers"):
        read_weights(tmp_path / "w.npz", "")
    with pytest.raises(BadInput, match="before: a is no tensor"):
        read_weights({"a": "text"}, "before")
