"""Weights & Biases, MLflow and Trackio receive a run, on this machine alone, also when resumed."""

import os
import sqlite3
import time

import pytest

from fedlab import BadInput, Federation
from tests.federations import finished, small

ATTACK = {"clients": "0", "iterations": 2, "preset": "fast"}
TRACKED = small(rounds=2, roles=[{"role": "leaking", "clients": "0"}], reconstructions=[ATTACK])


@pytest.fixture
def resumed(tmp_path, monkeypatch):
    """Function that runs a scenario with a tracker, stopped after its first round and resumed."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))

    def run(tracker):
        Federation(TRACKED.changed(trackers=[tracker]), out=tmp_path / "run").step()
        Federation.resume(tmp_path / "run").run()
        return tmp_path / "run"

    return run


@pytest.mark.parametrize(
    ("tracker", "name"),
    [("wandb", "Weights & Biases"), ("mlflow", "MLflow"), ("trackio", "Trackio")],
)
def test_a_missing_tracker_stops_the_run_at_once(monkeypatch, tracker, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(BadInput, match=f"{name} is not installed.*fedlab-privacy.{tracker}"):
        finished(small(rounds=1, trackers=[tracker]))


def test_trackio_does_not_follow_the_environment_elsewhere(monkeypatch):
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/runs")
    with pytest.raises(BadInput, match="TRACKIO_SPACE_ID is set"):
        finished(small(rounds=1, trackers=["trackio"]))


def test_mlflow_reports_nothing_about_itself():
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy
def test_mlflow_has_numbers_and_pictures(resumed):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    run = resumed("mlflow")
    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    where = client.get_experiment_by_name("fedlab").experiment_id
    (found,) = client.search_runs([where])
    history = client.get_metric_history(found.info.run_id, "model/accuracy")
    assert sorted({each.step for each in history}) == [0, 1, 2]
    assert found.info.status == "FINISHED"
    assert any(run.rglob("*.png"))


@pytest.mark.slow
def test_wandb_writes_one_run_without_a_network(resumed):
    pytest.importorskip("wandb")
    run = resumed("wandb")
    files = [*run.glob("wandb/offline-run-*/run-*.wandb")]
    assert {file.name for file in files} == {f"run-{(run / 'wandb.id').read_text()}.wandb"}
    # A process of W&B writes the file, on a busy machine some seconds after the run has ended.
    until = time.monotonic() + 60
    while not any(b"model/accuracy" in file.read_bytes() for file in files):
        assert time.monotonic() < until, [file.stat().st_size for file in files]
        time.sleep(0.1)
    assert len([*run.rglob("wandb/**/*.png")]) == 2


@pytest.mark.slow
def test_trackio_has_numbers_and_pictures(resumed, tmp_path):
    pytest.importorskip("trackio")
    run = resumed("trackio")
    with sqlite3.connect(tmp_path / "trackio" / "fedlab.db") as database:
        rows = database.execute("SELECT DISTINCT run_name, step FROM metrics ORDER BY step")
        names, steps = zip(*rows.fetchall(), strict=True)
    assert steps == (0, 1, 2)
    assert set(names) == {f"small {(run / 'trackio.id').read_text()}"}
    assert len([*(tmp_path / "trackio" / "media").rglob("*.png")]) == 2
