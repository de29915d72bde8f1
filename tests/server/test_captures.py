"""A Capture is what the server saw: it survives the disk, notices tampering, and holds no truth."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedlab import BadInput, Federation
from fedlab.server.captures import Capture
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0"}
ATTACK = {"clients": "0", "rounds": "1-2", "iterations": 5}


@pytest.fixture(scope="module")
def run():
    return finished(small(roles=[LEAK], reconstructions=[ATTACK], rounds=3))


def files(federation):
    return sorted(path.name for path in federation.folder.captures.iterdir())


def test_the_attacked_replies_are_kept_and_the_global_arrays_once_a_round(run):
    assert files(run) == [
        "global-0001.safetensors",
        "global-0002.safetensors",
        "reply-0001-00000.safetensors",
        "reply-0002-00000.safetensors",
    ]


def test_keep_all_and_keep_none():
    everything = finished(small(roles=[LEAK], rounds=1, captures={"keep": "all"}))
    assert len(files(everything)) == 5
    attacked = small(roles=[LEAK], rounds=1, reconstructions=[ATTACK | {"rounds": "1"}])
    assert files(finished(attacked.changed(captures={"keep": "none"}))) == []


def test_it_comes_back_as_it_was_in_the_order_of_the_layers(run):
    capture = Capture.load(run.folder.captures, round=1, client=0)
    fresh = Federation(run.scenario)
    done = fresh._loop.step(run.scenario, 1)
    seen = done.captures[0]
    assert list(capture.payload.tensors) == list(seen.payload.tensors)
    assert all(torch.equal(t, seen.payload.tensors[n]) for n, t in capture.payload.tensors.items())
    assert capture.announced == seen.announced
    assert capture.global_digest == seen.global_digest
    assert capture.reply_digest == seen.reply_digest


def test_no_seed_plan_label_or_image_is_in_the_files(run):
    parameters = {name for name, _ in run.site.model.named_parameters()}
    for path in run.folder.captures.iterdir():
        with safe_open(path, framework="pt") as file:
            assert set(file.keys()) <= parameters
            facts = json.loads((file.metadata() or {}).get("capture", "{}"))
        if facts:
            assert set(facts) == {
                "round",
                "clients",
                "kind",
                "names",
                "num_examples",
                "steps",
                "announced",
                "global_digest",
                "reply_digest",
            }
            assert set(facts["announced"]) == {
                "lr",
                "momentum",
                "weight_decay",
                "epochs",
                "batch_size",
                "defenses",
                "clipping_norm",
                "poisson",
            }


@pytest.mark.parametrize("name", ["reply-0001-00000.safetensors", "global-0001.safetensors"])
def test_a_changed_file_is_noticed(tmp_path, name):
    run = finished(small(roles=[LEAK], reconstructions=[ATTACK], rounds=2), out=tmp_path / "run")
    path = run.folder.captures / name
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(BadInput, match="changed since they were kept"):
        run.reconstruct(round=1, client=0)
    path.write_bytes(b"no safetensors")
    with pytest.raises(BadInput, match="cannot be read"):
        run.reconstruct(round=1, client=0)


def test_labels_are_inferred_alike_from_disk_and_live():
    scenario = small(
        roles=[LEAK | {"batch_size": 4}],
        reconstructions=[ATTACK | {"labels": "inferred", "rounds": "1"}],
        rounds=1,
    )
    run = finished(scenario)
    live = run.folder.table("leakage")["label_correct"].tolist()
    again = run.reconstruct(round=1, client=0, labels="inferred", iterations=5)
    assert [row.label_correct for row in again.rows] == live
