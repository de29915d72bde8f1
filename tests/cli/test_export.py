"""The command ``fedlab export``."""

import pytest
import torch

from tests.federations import finished, small


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    leak, attack = {"role": "leaking", "clients": "0"}, {"clients": "0", "iterations": 2}
    finished(small(rounds=1, roles=[leak], reconstructions=[attack]), out=folder)
    return folder


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_are_exported(fedlab, run, tmp_path, kind):
    code, out, err = fedlab("export", run, "--to", kind, "--out", "tables")
    assert (code, err) == (0, "")
    names = [f"{name}.{kind}" for name in ("clients", "leakage", "ledger", "rounds")]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == names
    assert all(name in out for name in names)


def test_events_are_exported(fedlab, run, tmp_path):
    pytest.importorskip("tensorboard")
    code, out, err = fedlab("export", run, "--to", "tensorboard", "--out", "events")
    assert (code, err) == (0, "")
    assert "tensorboard --logdir events" in out
    assert len(list((tmp_path / "events").iterdir())) == 1


def test_a_reply_is_exported(fedlab, run, tmp_path):
    options = ("--round", 1, "--client", 0, "--labels", "3")
    code, out, err = fedlab("export", run, "--to", "breaching", "--out", "here", *options)
    assert (code, err) == (0, "")
    assert "breaching-0001-00000.pt" in out
    case = torch.load(tmp_path / "here" / "breaching-0001-00000.pt", weights_only=True)
    assert case["shared_data"]["metadata"]["labels"].tolist() == [3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--to", "breaching", "--out", "new"), "--round and --client"),
        (("--to", "csv", "--out", "new", "--round", 1), "are for --to breaching"),
        (("--to", "csv", "--out", "."), "is not empty"),
        (("--to", "csv", "--out", "file"), "is a file"),
        (
            ("--to", "breaching", "--out", "new", "--round", 1, "--client", 0, "--labels", "a"),
            "whole numbers with commas",
        ),
        (
            ("--to", "breaching", "--out", "new", "--round", 1, "--client", 0, "--labels", "10"),
            "label 10 is none of the 10 classes, counted from 0",
        ),
        (
            ("--to", "breaching", "--out", "new", "--round", 2, "--client", 0),
            "no reply of client 0 was kept in round 2",
        ),
    ],
)
def test_bad_input_is_one_sentence(fedlab, run, tmp_path, options, sentence):
    (tmp_path / "file").write_text("")
    code, out, err = fedlab("export", run, *options)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_run_is_refused(fedlab, tmp_path):
    code, _, err = fedlab("export", tmp_path, "--to", "csv", "--out", "new")
    assert code == 2
    assert "holds no run" in err


def test_a_comparison_is_exported(fedlab, tmp_path):
    from fedlab import compare

    compare(small("rounds=1"), ["none", "mixup"], seeds=1, out=tmp_path / "both", processes=1)
    code, _, err = fedlab("export", "both", "--to", "csv", "--out", "tables")
    assert (code, err) == (0, "")
    names = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert names == ["comparison.csv", "leakage.csv"]
    pytest.importorskip("tensorboard")
    assert fedlab("export", "both", "--to", "tensorboard", "--out", "events")[0] == 0
    assert len(list((tmp_path / "events").iterdir())) == 2
