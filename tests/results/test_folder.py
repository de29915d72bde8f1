"""Run folders: refusals, tables, truncation and atomic writes."""

import os

import pytest

from fedlab import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.plain_text import csv_cell
from fedlab.results.folder import TABLES, RunFolder, next_free
from fedlab.results.rows import ClientRow, RoundRow, columns_of
from tests.federations import small


def test_folder_with_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="not empty"):
        RunFolder.create(tmp_path, small())
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be made"):
        RunFolder.create(tmp_path / "file" / "run", small())


def test_scenario_is_read_back_unchanged(tmp_path):
    scenario = small(defenses=[{"name": "dp-sgd", "rounds": "2-3"}])
    assert RunFolder.create(tmp_path / "run", scenario).scenario == scenario


def test_infinity_and_none_are_null_in_json(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    run.append_round(RoundRow(0, 0.1, float("inf"), None, 0.0))
    text = (tmp_path / "run" / "rounds.jsonl").read_text()
    assert "Infinity" not in text
    assert run.rounds()[0].loss is None


def test_later_rows_and_cut_off_lines_are_deleted(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    for number in range(3):
        run.append_round(RoundRow(number, 0.1, 1.0, None, 0.0))
    table = tmp_path / "run" / "clients.csv"
    table.write_text(
        table.read_text()
        + "1,0,honest,none,40,3,0.5,ok,,\n2,0,honest,none,40,3,0.5,ok,,\n2,1,honest,no"
    )
    run.truncate(after=1)
    assert [row.round for row in run.rounds()] == [0, 1]
    assert run.table("clients")["round"].tolist() == [1]


@pytest.mark.parametrize("torn", ['{"round": 2, "accu', '{"round": 2, "accuracy": 0.1', "{"])
def test_cut_off_round_is_deleted(tmp_path, torn):
    run = RunFolder.create(tmp_path / "run", small())
    for number in range(2):
        run.append_round(RoundRow(number, 0.1, 1.0, None, 0.0))
    with (tmp_path / "run" / "rounds.jsonl").open("a") as file:
        file.write(torn)
    run.truncate(after=1)
    assert [row.round for row in run.rounds()] == [0, 1]
    run.append_round(RoundRow(2, 0.1, 1.0, None, 0.0))
    assert [row.round for row in run.rounds()] == [0, 1, 2]


def test_table_with_fewer_columns_is_kept(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    table = tmp_path / "run" / "clients.csv"
    header = table.read_text().splitlines()[0]
    assert header.endswith(",reason,selected")
    before = header.removesuffix(",selected")
    table.write_text(f"{before}\n1,0,honest,none,40,3,0.5,ok,\n2,0,honest,none,40,3,0.5,ok,\n")
    for _ in range(2):  # resumed twice
        run.truncate(after=1)
    run.append("clients", [ClientRow(2, 0, "honest", "none", 40, 3, 0.5, "ok", "", "yes")])
    assert run.table("clients")["round"].tolist() == [1, 2]
    assert run.table("clients")["selected"].isna().tolist() == [True, False]


def test_cut_off_reason_is_deleted(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    row = ClientRow(1, 0, "honest", "none", 40, 3, 0.5, "refused", 'it said "no",\ntwice')
    run.append("clients", [row])
    with (tmp_path / "run" / "clients.csv").open("a") as file:
        file.write('2,1,honest,none,,,,refused,"it s')
    run.truncate(after=1)
    table = run.table("clients")
    assert table["round"].tolist() == [1]
    assert table["reason"].tolist() == [csv_cell(row.reason)]


def test_refused_folder_is_not_changed(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput):
        RunFolder.create(tmp_path, small())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_new_tables_have_columns_but_no_rows(tmp_path):
    run = RunFolder.create(tmp_path, small())
    for name, kind in TABLES.items():
        table = run.table(name)
        assert table.empty
        assert list(table.columns) == columns_of(kind)
    assert run.rounds() == []


def test_no_file_contains_the_folder_path(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    for path in run.path.rglob("*.*"):
        assert str(tmp_path) not in path.read_text()


def test_next_free_name_is_counted_up(tmp_path):
    assert next_free(tmp_path, "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert next_free(tmp_path, "run") == tmp_path / "run-3"


def test_interrupted_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_size_is_that_of_all_files(tmp_path):
    run = RunFolder.create(tmp_path / "run", small())
    before = run.size()
    (run.captures / "more").write_bytes(bytes(1000))
    assert run.size() == before + 1000
