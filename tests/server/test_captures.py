"""A Capture is what the server saw: it survives the disk, notices tampering, and holds no truth."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from attacks.payload import Payload
from fedlab import BadInput, Federation
from fedlab.protocol.round_facts import RoundFacts
from fedlab.server.captures import Capture, digest
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0"}
ATTACK = {"clients": "0", "rounds": "1-2", "iterations": 5}


@pytest.fixture(scope="module")
def run():
    return finished(small(roles=[LEAK], reconstructions=[ATTACK], rounds=3))


def files(federation):
    return sorted(path.name for path in federation.folder.captures.iterdir())


def test_attacked_replies_are_kept(run):
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


def test_loaded_capture_equals_the_saved_one(run):
    capture = Capture.load(run.folder.captures, round=1, client=0)
    fresh = Federation(run.scenario)
    done = fresh._loop.step(run.scenario, 1)
    seen = done.captures[0]
    assert list(capture.payload.tensors) == list(seen.payload.tensors)
    assert all(torch.equal(t, seen.payload.tensors[n]) for n, t in capture.payload.tensors.items())
    assert capture.facts == seen.facts
    assert capture.global_digest == seen.global_digest
    assert capture.reply_digest == seen.reply_digest


def test_no_seed_plan_label_or_image_is_in_the_files(run):
    parameters = {name for name, _ in run.federated.model.named_parameters()}
    for path in run.folder.captures.iterdir():
        with safe_open(path, framework="pt") as file:
            assert set(file.keys()) <= parameters
            metadata = file.metadata() or {}
        kept = {"capture", "digest"} if path.stem.startswith("reply") else set()
        assert set(metadata) == kept
        facts = json.loads(metadata.get("capture", "{}"))
        if facts:
            assert set(facts) == {
                "round",
                "clients",
                "kind",
                "names",
                "num_examples",
                "steps",
                "facts",
                "global_digest",
                "reply_digest",
            }
            assert set(facts["facts"]) == {
                "lr",
                "momentum",
                "weight_decay",
                "epochs",
                "batch_size",
                "defenses",
                "clipping_norm",
                "noise_multiplier",
                "mixture_size",
                "poisson",
                "proximal_mu",
                "training_mode",
                "malicious",
                "target",
                "update_clipping_norm",
                "update_noise",
                "optimiser",
                "betas",
                "eps",
                "norm_target",
                "singled_out",
                "share",
                "single_batch",
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
    preset = scenario.reconstructions[0].preset
    again = run.reconstruct(round=1, client=0, preset=preset, labels="inferred", iterations=5)
    assert [row.label_correct for row in again.rows] == live


def made(kind="gradient", facts=None):
    facts = facts or RoundFacts(0.1, 0.9, 1e-4, 2, 8, ("dp-sgd",), 0.5, True)
    before = {"z": torch.arange(6.0).reshape(2, 3).T, "a": torch.tensor(2.0)}
    sent = {name: value + 1 for name, value in before.items()}
    return Capture(3, (7,), before, Payload(kind, sent, num_examples=9, steps=4), facts)


@pytest.mark.parametrize("kind", ["gradient", "weights"])
def test_every_field_survives_the_disk(tmp_path, kind):
    capture = made(kind)
    capture.save(tmp_path)
    again = Capture.load(tmp_path, round=3, client=7)
    assert (again.round, again.clients, again.facts) == (3, (7,), capture.facts)
    one, other = again.payload, capture.payload
    assert (one.kind, one.num_examples, one.steps) == (kind, other.num_examples, other.steps)
    for found, kept in (
        (again.payload.tensors, capture.payload.tensors),
        (again.global_state, capture.global_state),
    ):
        assert found.keys() == kept.keys()
        assert all(torch.equal(found[name], kept[name]) for name in kept)
        assert all(found[name].shape == kept[name].shape for name in kept)


def test_digest_ignores_order_only():
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    whole = digest(tensors)
    assert digest(dict(reversed(tensors.items()))) == whole
    for other in (
        {"c": tensors["a"], "b": tensors["b"]},
        tensors | {"a": torch.zeros(3, 2)},
        tensors | {"a": torch.zeros(2, 3, dtype=torch.float64)},
        tensors | {"b": torch.tensor([1.0, 1.0001])},
    ):
        assert digest(other) != whole


def test_incomplete_or_foreign_reply_is_refused(tmp_path):
    made().save(tmp_path)
    (tmp_path / "global-0003.safetensors").rename(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="global-0003"):
        Capture.load(tmp_path, round=3, client=7)
    (tmp_path / "elsewhere").rename(tmp_path / "global-0003.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "reply-0003-00007.safetensors")
    with pytest.raises(BadInput, match="is not a capture of fedlab"):
        Capture.load(tmp_path, round=3, client=7)


def test_missing_capture_names_those_kept(tmp_path):
    made().save(tmp_path)
    with pytest.raises(BadInput, match=r"client 8 was kept in round 3.*\(kept: reply-0003-00007\)"):
        Capture.load(tmp_path, round=3, client=8)
