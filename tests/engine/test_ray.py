"""The Ray engine gives the bits of the in-process one, and tells failure from success."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedlab import BadInput, Federation, Scenario
from fedlab.engine.ray import run_on_ray
from fedlab.runs.checkpoint import Checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def scenario(**tables):
    return Scenario.parse(
        """
        name = "both-engines"
        rounds = 3
        data = { train = 400, test = 100, clients = 4 }
        model = { width = 8 }
        training = { lr = 0.05, momentum = 0.9 }
        server = { strategy = "FedAvgM", options = { server_momentum = 0.5 } }
        engine = { device = "cpu" }
        reconstructions = [{ clients = "0", rounds = "1", iterations = 20 }]
        [[roles]]
        role = "leaking"
        clients = "0"
        [[roles]]
        role = "poisoning"
        clients = "3"
        [[defenses]]
        name = "dp-sgd"
        clients = "1"
        [[defenses]]
        name = "dp-instahide"
        rounds = "2"
        clients = "0,2"
        """
    ).changed(**tables)


def children():
    """Command lines of the processes of this user that Flower or Ray may have left behind."""
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    marks = ("flower-superlink", "gcs_server", "raylet", "flwr-simulation")
    return {line for line in lines.stdout.splitlines() if any(mark in line for mark in marks)}


def last(folder: Path) -> Checkpoint:
    return Checkpoint.load(folder / "checkpoints" / "last.safetensors")


def test_ray_and_in_process_end_in_the_same_bits(tmp_path):
    before, lines = children(), []
    federation = Federation(scenario(), out=tmp_path / "here")
    federation.run()
    run_on_ray(scenario(), tmp_path / "ray", on_line=lines.append)
    one, other = last(tmp_path / "here"), last(tmp_path / "ray")
    assert other.round == 3
    assert one.histories == other.histories
    assert one.state.keys() == other.state.keys()
    for name, value in one.state.items():
        assert torch.equal(value, other.state[name]), name
    for table in ("ledger.csv", "clients.csv"):
        assert (tmp_path / "here" / table).read_text() == (tmp_path / "ray" / table).read_text()
    assert (tmp_path / "ray" / "reconstructions" / "round-0001.png").is_file()
    assert [line.split(":")[0] for line in lines] == ["round 1", "round 2", "round 3"]
    assert children() <= before  # the SuperLink and Ray are gone


OWN_IMAGES = """
from fedlab.data import load

def some_digits():
    return load("digits").limited(400, 100, seed=5)
"""


def test_a_run_of_the_other_engine_on_images_of_ones_own_is_resumed(tmp_path, monkeypatch):
    (tmp_path / "own_images.py").write_text(OWN_IMAGES)
    monkeypatch.chdir(tmp_path)
    data = {"source": "factory", "factory": "own_images:some_digits", "clients": 4}
    whole = Federation(scenario(data=data), out=tmp_path / "whole")
    whole.run()
    Federation(scenario(data=data), out=tmp_path / "broken").step()
    run_on_ray(scenario(data=data), tmp_path / "broken", on_line=lambda _: None, resume=True)
    one, other = last(tmp_path / "whole"), last(tmp_path / "broken")
    assert one.histories == other.histories
    assert all(torch.equal(value, other.state[name]) for name, value in one.state.items())


def test_a_run_that_cannot_work_is_told_as_such(tmp_path):
    too_few = scenario(data={"train": 3, "test": 10, "clients": 4})
    with pytest.raises(BadInput, match="4 clients cannot share 3 images"):
        run_on_ray(too_few, tmp_path / "ray", on_line=lambda _: None)


def test_flwr_run_works_from_the_repository(tmp_path):
    """``flwr run .`` as the README shows it, with the scenario named in the run config."""
    root = Path(__file__).resolve().parents[2]
    file = tmp_path / "scenario.toml"
    file.write_text(scenario(rounds=1, defenses=(), reconstructions=()).to_toml())
    home = tmp_path / "flwr"
    home.mkdir()
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        str(scripts / "flwr"),
        *("run", str(root), "--stream"),
        *("--run-config", f'scenario="{file}" out="{tmp_path / "run"}"'),
        *("--federation-config", "num-supernodes=4"),
    ]
    before = children()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert last(tmp_path / "run").round == 1, done.stdout[-2000:] + done.stderr[-2000:]
    finally:
        # `flwr run` leaves a SuperLink behind; only what this test started is ended.
        for line in children() - before:
            subprocess.run(["kill", line.split()[0]], check=False)
