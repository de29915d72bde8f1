"""Exported tables keep rows, columns and types."""

import importlib.util
import math

import pandas as pd
import pytest

from fedlab import BadInput
from fedlab.comparison import Comparison
from fedlab.comparison.comparison import ComparedRun
from fedlab.integrations.exports.tables import tables_of_comparison, tables_of_run, write_tables
from fedlab.privacy.ledger import LedgerRow
from fedlab.results.folder import RunFolder
from fedlab.results.rows import ClientRow, LeakageRow, RoundRow, columns_of
from tests.federations import finished, small

SCENARIO = small(
    rounds=2,
    roles=[{"role": "leaking", "clients": "0"}],
    defenses=[{"name": "dp-sgd", "clients": "1"}],
    reconstructions=[{"clients": "0", "iterations": 3, "preset": "fast"}],
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "run"
    finished(SCENARIO, out=folder)
    return RunFolder.open(folder)


@pytest.fixture(scope="module")
def tables(run):
    return tables_of_run(run)


def test_tables_have_a_row_per_fact(tables):
    assert {name: len(table) for name, table in tables.items()} == {
        "rounds": 3,
        "clients": 8,
        "leakage": 2,
        "ledger": 8,
    }
    rows = {"rounds": RoundRow, "clients": ClientRow, "leakage": LeakageRow, "ledger": LedgerRow}
    for name, row in rows.items():
        assert list(tables[name]) == columns_of(row)


def test_types(tables):
    rounds, clients, leakage, ledger = (
        tables[name] for name in ("rounds", "clients", "leakage", "ledger")
    )
    assert rounds["round"].dtype == "int64"
    assert rounds["attack_success_rate"].dtype == "float64"
    assert rounds["attack_success_rate"].isna().all()
    assert clients["examples"].dtype == "Int64"
    assert clients["selected"].tolist() == [""] * 8
    assert leakage["known_labels"].dtype == leakage["label_correct"].dtype == bool
    assert leakage["known_labels"].all()
    assert leakage["psnr"].dtype == "float64"
    assert ledger["steps"].dtype == "Int64"
    unprotected = ledger[ledger["client"] == 0]
    assert unprotected["steps"].isna().all()
    assert unprotected["epsilon_total"].tolist() == [math.inf] * 2
    assert unprotected["epsilon_protected"].isna().all()
    assert ledger[ledger["client"] == 1]["epsilon_total"].between(0, 1e6).all()


def test_a_run_without_any_row(tmp_path):
    tables = tables_of_run(RunFolder.create(tmp_path / "run", SCENARIO))
    assert [len(table) for table in tables.values()] == [0] * 4
    assert tables["leakage"]["known_labels"].dtype == bool
    assert tables["rounds"]["accuracy"].dtype == "float64"
    for kind in ("csv", "parquet"):
        write_tables(tables, tmp_path / kind, kind)


def test_parquet_comes_back_with_its_types(tables, tmp_path):
    files = write_tables(tables, tmp_path / "made" / "here", "parquet")
    for file, (name, table) in zip(files, tables.items(), strict=True):
        assert file == tmp_path / "made" / "here" / f"{name}.parquet"
        again = pd.read_parquet(file)
        assert again.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
        pd.testing.assert_frame_equal(again, table)


def test_csv_comes_back_with_its_numbers(tables, tmp_path):
    for file, table in zip(write_tables(tables, tmp_path, "csv"), tables.values(), strict=True):
        again = pd.read_csv(file)
        assert list(again) == list(table)
        for name in table.select_dtypes(["number", "bool"]):
            expected = table[name].astype("float64").to_numpy(na_value=math.nan)
            assert again[name].astype("float64").to_numpy() == pytest.approx(expected, nan_ok=True)
    text = (tmp_path / "ledger.csv").read_text()
    assert ",inf," in text
    assert ",open," in text
    assert ",True," in (tmp_path / "leakage.csv").read_text()


def test_a_comparison(run, tmp_path):
    runs = tuple(ComparedRun(label, "FedAvg", 0, run) for label in ("none", "mixup"))
    comparison = Comparison(SCENARIO, tmp_path, runs, {})
    tables = tables_of_comparison(comparison.frame, comparison.leakage)
    assert tables["comparison"].equals(comparison.frame)
    assert tables["comparison"]["images"].sum() == 4
    assert tables["leakage"]["defense"].tolist() == ["none"] * 2 + ["mixup"] * 2
    assert tables["leakage"]["known_labels"].dtype == bool
    for file in write_tables(tables, tmp_path / "parquet", "parquet"):
        again = pd.read_parquet(file)
        numbers = again.select_dtypes("number")
        pd.testing.assert_frame_equal(numbers, tables[file.stem].select_dtypes("number"))


def test_without_pyarrow_csv_still_works(tables, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pyarrow" else found(name)
    )
    with pytest.raises(BadInput, match=r'pip install "fedlab-privacy\[parquet\]"'):
        write_tables(tables, tmp_path / "here", "parquet")
    assert not (tmp_path / "here").exists()
    assert write_tables(tables, tmp_path / "here", "csv")


def test_a_folder_that_cannot_be(tables, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written to"):
        write_tables(tables, tmp_path / "file", "csv")
