"""The run folder refuses to overwrite, and is never left half written."""

import os

import pytest

from fedlab import BadInput
from fedlab.files import write_atomically
from fedlab.runs.folder import RunFolder, next_free
from fedlab.runs.rows import RoundRow
from tests.federations import small


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="not empty"):
        RunFolder.create(tmp_path, small())
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be made"):
        RunFolder.create(tmp_path / "file" / "run", small())


def test_the_scenario_comes_back_as_it_was(tmp_path):
    scenario = small(defenses=[{"name": "dp-sgd", "rounds": "2-3"}])
    assert RunFolder.create(tmp_path / "run", scenario).scenario == scenario


def test_infinity_and_nothing_are_null_in_json_lines(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    run.append_round(RoundRow(0, 0.1, float("inf"), None, 0.0))
    text = (tmp_path / "run" / "rounds.jsonl").read_text()
    assert "Infinity" not in text
    assert run.rounds()[0].loss is None


def test_rows_of_later_rounds_and_half_lines_are_forgotten(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    for number in range(3):
        run.append_round(RoundRow(number, 0.1, 1.0, None, 0.0))
    table = tmp_path / "run" / "clients.csv"
    table.write_text(
        table.read_text()
        + "1,0,honest,none,40,3,0.5,ok,\n2,0,honest,none,40,3,0.5,ok,\n2,1,honest,no"
    )
    run.truncate(after=1)
    assert [row.round for row in run.rounds()] == [0, 1]
    assert run.table("clients")["round"].tolist() == [1]


def test_the_next_free_name(tmp_path):
    assert next_free(tmp_path, "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert next_free(tmp_path, "run") == tmp_path / "run-3"


def test_a_write_that_is_interrupted_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_size_is_that_of_all_files(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    before = run.size()
    (run.captures / "more").write_bytes(bytes(1000))
    assert run.size() == before + 1000
